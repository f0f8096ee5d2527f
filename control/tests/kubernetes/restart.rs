//! The cache on disk: a source that starts while the server is away (R04).

use crate::followed::{Followed, Wishes, tables_of_file, timing};
use crate::server::ApiServer;
use control::kubernetes::Timing;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

fn with_cache(server: &ApiServer, cache: &Path) -> Followed {
    let timing = Timing { cache_grace: Duration::from_millis(300), ..timing() };
    Followed::with(server, Wishes { cache: Some(cache.to_owned()), timing, ..Wishes::default() })
}

/// A cache of the recorded cluster after its scenario.
fn cached(server: &ApiServer, cache: &Path) -> Vec<String> {
    let mut followed = with_cache(server, cache);
    followed.until_synced();
    server.play();
    followed.until_as_the_server(server);
    // What was there before the last object is written before it, or with it.
    server.put("namespaces", serde_json::json!({"metadata": {"name": "last"}}));
    let is_written = |text: String| text.contains("\"put\":\"Namespace last\"");
    followed.until("all of it is written", |_| fs::read_to_string(cache).is_ok_and(is_written));
    tables_of_file(server)
}

#[test]
fn r04_a_restart_without_the_server_puts_the_last_objects_in_force_until_it_comes() {
    let server = ApiServer::recorded();
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("state/objects");
    let tables = cached(&server, &cache);
    server.go_away();
    let mut again = with_cache(&server, &cache);
    again.until("the cache", |followed| followed.generations == 1);
    assert_eq!(again.tables(), tables);
    let status = again.status();
    let objects = status.cached.expect("they are of the cache");
    assert!(objects.in_force && objects.path == cache && !status.synced, "{objects:?}");
    // What changed meanwhile comes with the first list, all at once.
    server.delete_silently("pods", "base/p1");
    server.come_back();
    again.until("the server", |followed| followed.status().synced && !followed.has_pod("base", "p1"));
    assert_eq!(again.status().cached, None);
    again.until_as_the_server(&server);
}

#[test]
fn an_old_cache_waits_for_the_server_first() {
    let server = ApiServer::recorded();
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("objects");
    cached(&server, &cache);
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().append(true).open(&cache).unwrap().set_modified(long_ago).unwrap();
    server.delete_silently("pods", "base/p1");
    let mut again = with_cache(&server, &cache);
    again.until("the first generation", |followed| followed.generations == 1);
    again.until_synced();
    again.until_as_the_server(&server);
    // And is put in force when the server does not come.
    drop(again);
    fs::File::options().append(true).open(&cache).unwrap().set_modified(long_ago).unwrap();
    server.go_away();
    let mut again = with_cache(&server, &cache);
    again.until("the cache", |followed| followed.generations == 1);
    assert!(again.status().cached.is_some_and(|cached| cached.age_ms >= 3_600_000 && cached.in_force));
}

#[test]
fn a_cache_that_cannot_be_used_or_written_is_told_and_the_server_is_followed() {
    let server = ApiServer::recorded();
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("objects");
    fs::write(&cache, "what is this?\n").unwrap();
    let mut followed = with_cache(&server, &cache);
    followed.until_synced();
    followed.until("a good one", |_| fs::read_to_string(&cache).is_ok_and(|text| text.contains("\"complete\":true")));
    drop(followed);
    let no_folder = cache.join("below-a-file");
    let mut followed = with_cache(&server, &no_folder);
    followed.until_synced();
    followed.until("it is told", |followed| {
        followed.status().cache_problem.is_some_and(|problem| problem.contains("below-a-file"))
    });
}
