use super::super::config::{ForwardError, StubDomain};
use super::*;

fn wire(name: &str) -> Vec<u8> {
    Name::<Vec<u8>>::from_str(name).expect("a name").as_slice().to_vec()
}

fn addresses(servers: &[Arc<Server>]) -> Vec<String> {
    servers.iter().map(|server| server.address.to_string()).collect()
}

fn fixed(upstreams: &[&str]) -> ForwardConfig {
    let upstreams = upstreams.iter().map(|text| text.parse().expect("an address")).collect();
    ForwardConfig { upstreams: Upstreams::Fixed(upstreams), ..ForwardConfig::default() }
}

#[test]
fn nameserver_lines_are_read_as_the_manual_says() {
    let text = "# comment\nnameserver 192.0.2.1\n  nameserver\t2001:db8::1 # the second\n;nameserver 192.0.2.9\nnameserver \
                192.0.2.1\nsearch a b\nnameservers 192.0.2.8\nnameserver nonsense\nnameserver\noptions ndots:5\nnameserver \
                fe80::1%7\n";
    let found: Vec<String> = nameservers(text).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%7]:53"]);
    let many: String = (0..20).map(|number| format!("nameserver 192.0.2.{number}\n")).collect();
    assert_eq!(nameservers(&many).len(), SERVERS_MAX);
}

#[test]
fn the_longest_stub_domain_counts_and_only_whole_labels_do() {
    let mut config = fixed(&["192.0.2.1:53"]);
    for (zone, address) in [("corp.example", "192.0.2.2:53"), ("eu.Corp.Example.", "192.0.2.3:5353")] {
        let upstreams = vec![address.parse().expect("an address")];
        config.stub_domains.push(StubDomain { zone: zone.to_owned(), upstreams });
    }
    config.check().expect("a good configuration");
    let servers = Servers::new(&config);
    for (name, expected) in [
        ("corp.example", "192.0.2.2:53"),
        ("a.corp.example", "192.0.2.2:53"),
        ("acorp.example", "192.0.2.1:53"),
        ("eu.corp.example", "192.0.2.3:5353"),
        ("b.a.eu.corp.example", "192.0.2.3:5353"),
        ("example", "192.0.2.1:53"),
        (".", "192.0.2.1:53"),
    ] {
        assert_eq!(addresses(&servers.of(&wire(name), Instant::now())), [expected], "{name}");
    }
}

#[test]
fn a_server_that_failed_is_asked_last_until_it_answers_or_has_rested() {
    let servers = Servers::new(&fixed(&["192.0.2.1:53", "192.0.2.2:53"]));
    let (name, mut now) = (wire("a.example"), Instant::now());
    let first = servers.of(&name, now)[0].clone();
    for rest in [5, 10, 20, 40, 60, 60] {
        first.handle_failure(now);
        now += Duration::from_secs(rest) - Duration::from_millis(1);
        assert_eq!(addresses(&servers.of(&name, now)), ["192.0.2.2:53", "192.0.2.1:53"], "{rest}");
        now += Duration::from_millis(1);
        assert_eq!(addresses(&servers.of(&name, now)), ["192.0.2.1:53", "192.0.2.2:53"], "{rest}");
    }
    first.handle_failure(now);
    first.handle_answer();
    assert_eq!(addresses(&servers.of(&name, now)), ["192.0.2.1:53", "192.0.2.2:53"]);
}

#[test]
fn a_server_that_leads_back_is_not_asked() {
    let servers = Servers::new(&fixed(&["192.0.2.1:53", "192.0.2.2:53"]));
    servers.all()[0].handle_loop();
    assert_eq!(addresses(&servers.of(&wire("a.example"), Instant::now())), ["192.0.2.2:53"]);
}

#[test]
fn servers_that_cannot_be_asked_are_refused_by_name() {
    let own = vec!["127.0.0.1:5353".parse().expect("an address"), "0.0.0.0:53".parse().expect("an address")];
    for (upstream, why) in [
        ("127.0.0.1:5353", "this server itself"),
        ("127.0.0.9:53", "this server itself"),
        ("192.0.2.1:0", "port 0"),
        ("0.0.0.0:54", "no address"),
        ("224.0.0.251:5353", "multicast"),
    ] {
        let error = ForwardConfig { own: own.clone(), ..fixed(&[upstream]) }.check().expect_err(upstream).to_string();
        assert!(error.contains(why) && error.contains(upstream), "{error}");
    }
    ForwardConfig { own, ..fixed(&["127.0.0.1:5354", "192.0.2.1:53"]) }.check().expect("others than itself");
    assert_eq!(fixed(&["192.0.2.1:53"; 9]).check(), Err(ForwardError::TooMany("upstreams of a zone", SERVERS_MAX)));
    let stub = |zone: &str, upstreams: Vec<SocketAddr>| ForwardConfig {
        stub_domains: vec![StubDomain { zone: zone.to_owned(), upstreams }],
        ..ForwardConfig::default()
    };
    assert!(matches!(stub("a..b", Vec::new()).check(), Err(ForwardError::StubDomain(..))));
    assert!(matches!(stub("a.b", Vec::new()).check(), Err(ForwardError::StubDomain(..))));
}

#[test]
fn a_resolv_conf_is_read_again_when_it_changes_and_what_vanishes_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("resolv.conf");
    let own = vec!["192.0.2.53:53".parse().expect("an address")];
    let config = ForwardConfig { upstreams: Upstreams::ResolvConf(path.clone()), own, ..ForwardConfig::default() };
    let servers = Servers::new(&config);
    let mut now = Instant::now();
    assert!(matches!(servers.look(now), Looked::Nobody(why) if why.contains("resolv.conf: No such file")));
    let mut look = |text: Option<&str>| {
        match text {
            Some(text) => fs::write(&path, text).expect("written"),
            None => fs::remove_file(&path).expect("removed"),
        }
        assert_eq!(servers.look(now), Looked::Same, "not so soon");
        now += LOOK_EVERY;
        let looked = servers.look(now);
        (looked, addresses(&servers.of(&wire("a.example"), now)))
    };
    assert_eq!(look(Some("nameserver 192.0.2.1\n")), (Looked::Changed, vec!["192.0.2.1:53".to_owned()]));
    assert_eq!(look(None), (Looked::Same, vec!["192.0.2.1:53".to_owned()]));
    let (looked, found) = look(Some("nameserver 192.0.2.53\nnameserver 192.0.2.22\n"));
    assert_eq!((looked, found), (Looked::Changed, vec!["192.0.2.22:53".to_owned()]));
    let (looked, found) = look(Some("nameserver 192.0.2.53\n"));
    assert!(matches!(looked, Looked::Nobody(why) if why.contains("this server itself")));
    assert_eq!(found, [""; 0]);
}
