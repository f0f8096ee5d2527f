use super::*;
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn node() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let (bin, conf) = (root.path().join("opt/cni/bin"), root.path().join("etc/cni/net.d"));
    (root, bin, conf)
}

fn plugin(root: &tempfile::TempDir, content: &str) -> PathBuf {
    let path = root.path().join("plugin");
    fs::write(&path, content).unwrap();
    path
}

fn socket() -> &'static Path {
    Path::new("/run/podplane/node.sock")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn list(conf: &Path) -> Value {
    serde_json::from_slice(&fs::read(conf.join(CONFLIST_FILE)).unwrap()).unwrap()
}

#[test]
fn folders_are_made_and_nothing_but_the_two_files_is_left_in_them() {
    let (root, bin, conf) = node();
    let source = plugin(&root, "binary");
    assert_eq!(install_plugin(&source, &bin).unwrap(), Done { path: bin.join(PLUGIN), change: Change::Written });
    assert_eq!(install_conflist(socket(), &conf).unwrap().change, Change::Written);
    let names = |folder: &Path| -> Vec<_> { fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect() };
    assert_eq!((names(&bin), names(&conf)), (vec![PLUGIN.into()], vec![CONFLIST_FILE.into()]));
    assert_eq!((mode(&bin.join(PLUGIN)), mode(&conf.join(CONFLIST_FILE))), (0o755, 0o600));
}

#[test]
fn the_list_is_what_runtimes_old_and_young_read() {
    let (_root, _, conf) = node();
    install_conflist(socket(), &conf).unwrap();
    let expected = json!({
        "cniVersion": "1.0.0",
        "cniVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
        "name": "podplane",
        "plugins": [{
            "type": "podplane-cni",
            "socket": "/run/podplane/node.sock",
            "capabilities": {"portMappings": true, "ips": true, "mac": true, "dns": true},
        }],
    });
    assert_eq!(list(&conf), expected);
}

#[test]
fn what_is_right_is_not_touched_and_what_is_not_is_replaced() {
    let (root, bin, conf) = node();
    let source = plugin(&root, "binary");
    install_plugin(&source, &bin).unwrap();
    install_conflist(socket(), &conf).unwrap();
    let inodes =
        || (fs::metadata(bin.join(PLUGIN)).unwrap().ino(), fs::metadata(conf.join(CONFLIST_FILE)).unwrap().ino());
    let before = inodes();
    assert_eq!(install_plugin(&source, &bin).unwrap().change, Change::Unchanged);
    assert_eq!(install_conflist(socket(), &conf).unwrap().change, Change::Unchanged);
    assert_eq!(inodes(), before);
    // Content, mode, and a link in place of the file.
    let source = plugin(&root, "another");
    assert_eq!(install_plugin(&source, &bin).unwrap().change, Change::Written);
    assert_eq!(fs::read(bin.join(PLUGIN)).unwrap(), b"another");
    fs::set_permissions(bin.join(PLUGIN), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(install_plugin(&source, &bin).unwrap().change, Change::Written);
    assert_eq!(mode(&bin.join(PLUGIN)), 0o755);
    let elsewhere = root.path().join("elsewhere");
    fs::write(&elsewhere, "another").unwrap();
    fs::remove_file(bin.join(PLUGIN)).unwrap();
    symlink(&elsewhere, bin.join(PLUGIN)).unwrap();
    assert_eq!(install_plugin(&source, &bin).unwrap().change, Change::Written);
    assert!(fs::symlink_metadata(bin.join(PLUGIN)).unwrap().is_file());
}

/// Starts a copy of sleep(1). A process that another test starts at this moment may hold the file open for writing until it is
/// another program.
fn run(path: &Path) -> std::process::Child {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        match std::process::Command::new(path).arg("60").spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && std::time::Instant::now() < deadline => {
                std::thread::yield_now();
            }
            child => return child.unwrap(),
        }
    }
}

#[test]
fn a_binary_that_runs_is_replaced() {
    let (root, bin, _) = node();
    install_plugin(Path::new("/bin/sleep"), &bin).unwrap();
    let mut running = run(&bin.join(PLUGIN));
    let replaced = install_plugin(&plugin(&root, "another"), &bin);
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(replaced.unwrap().change, Change::Written);
}

#[test]
fn what_an_attempt_that_was_killed_has_left_is_no_obstacle() {
    let (root, bin, _) = node();
    fs::create_dir_all(&bin).unwrap();
    let precious = root.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    symlink(&precious, bin.join(".podplane-cni.part")).unwrap();
    install_plugin(&plugin(&root, "binary"), &bin).unwrap();
    assert_eq!(fs::read(bin.join(PLUGIN)).unwrap(), b"binary");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    assert!(!bin.join(".podplane-cni.part").exists());
}

#[test]
fn plugins_that_others_chained_stay_where_they_are() {
    let (_root, _, conf) = node();
    install_conflist(Path::new("/run/old.sock"), &conf).unwrap();
    let mut chained = list(&conf);
    let mesh = json!({"type": "istio-cni", "log_level": "info"});
    chained["plugins"].as_array_mut().unwrap().push(mesh.clone());
    fs::write(conf.join(CONFLIST_FILE), chained.to_string()).unwrap();
    install_conflist(socket(), &conf).unwrap();
    let plugins = list(&conf)["plugins"].clone();
    assert_eq!((&plugins[0]["socket"], &plugins[1], plugins.as_array().unwrap().len()), (&json!(socket()), &mesh, 2));
    assert_eq!(install_conflist(socket(), &conf).unwrap().change, Change::Unchanged);
}

#[test]
fn a_list_that_is_broken_is_replaced() {
    let (_root, _, conf) = node();
    fs::create_dir_all(&conf).unwrap();
    for broken in ["", "{", "[]", r#"{"plugins": {}}"#, r#"{"plugins": [{"type": 1}]}"#] {
        fs::write(conf.join(CONFLIST_FILE), broken).unwrap();
        install_conflist(socket(), &conf).unwrap();
        assert_eq!(list(&conf)["plugins"].as_array().unwrap().len(), 1, "{broken}");
    }
}

#[test]
fn configurations_that_go_before_are_named() {
    let (_root, _, conf) = node();
    assert_eq!(rivals(&conf), [""; 0]);
    fs::create_dir_all(&conf).unwrap();
    for name in ["00-first.conf", "05-other.conflist", "10-later.conflist", "01-notes.txt", ".hidden", "README"] {
        fs::write(conf.join(name), "{}").unwrap();
    }
    assert_eq!(rivals(&conf), ["00-first.conf", "05-other.conflist"]);
}

#[test]
fn uninstalling_takes_both_away_and_is_done_twice_without_harm() {
    let (root, bin, conf) = node();
    install_plugin(&plugin(&root, "binary"), &bin).unwrap();
    install_conflist(socket(), &conf).unwrap();
    fs::write(bin.join("loopback"), "of others").unwrap();
    let changes = |(done, failed): (Vec<Done>, Vec<InstallError>)| {
        assert!(failed.is_empty(), "{failed:?}");
        done.iter().map(|done| done.change).collect::<Vec<_>>()
    };
    assert_eq!(changes(uninstall(&bin, &conf, &[])), [Change::Removed; 2]);
    assert_eq!(changes(uninstall(&bin, &conf, &[])), [Change::Absent; 2]);
    assert!(bin.join("loopback").exists());
    assert_eq!(
        changes(uninstall(Path::new("/nowhere"), Path::new("/nowhere"), &["/nowhere/podplane".into()])),
        [Change::Absent; 3]
    );
}

#[test]
fn the_folders_of_an_agent_go_with_all_that_is_in_them() {
    let (root, bin, conf) = node();
    let folder = root.path().join("podplane");
    fs::create_dir_all(folder.join("sandboxes")).unwrap();
    fs::write(folder.join("sandboxes/1"), "{}").unwrap();
    let (done, failed) = uninstall(&bin, &conf, std::slice::from_ref(&folder));
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(done[2], Done { path: folder.clone(), change: Change::Removed });
    assert!(!folder.exists() && root.path().exists());
}

#[test]
fn somebody_elses_list_stays_and_the_binary_goes_all_the_same() {
    let (root, bin, conf) = node();
    install_plugin(&plugin(&root, "binary"), &bin).unwrap();
    fs::create_dir_all(&conf).unwrap();
    fs::write(conf.join(CONFLIST_FILE), r#"{"plugins": [{"type": "bridge"}]}"#).unwrap();
    let (done, failed) = uninstall(&bin, &conf, &[]);
    assert_eq!(done, [Done { path: bin.join(PLUGIN), change: Change::Removed }]);
    assert!(failed[0].to_string().contains("05-podplane.conflist: not removed: it was not written by podplane"));
    assert!(conf.join(CONFLIST_FILE).exists());
}

#[test]
fn what_cannot_be_done_names_the_file() {
    let (root, bin, _) = node();
    let error = install_plugin(&root.path().join("missing"), &bin).unwrap_err().to_string();
    assert!(error.contains("missing: the plugin to install cannot be read: No such file"), "{error}");
    let error = install_plugin(root.path(), &bin).unwrap_err().to_string();
    assert!(error.contains("it is not a plain file"), "{error}");
    // A file where a folder should be.
    let source = plugin(&root, "binary");
    let error = install_plugin(&source, &source).unwrap_err().to_string();
    assert!(error.contains("plugin/podplane-cni: it cannot be written"), "{error}");
}

#[test]
fn the_sample_in_the_tree_is_what_is_installed() {
    let sample: Value = serde_json::from_str(include_str!("../../../deploy/cni/05-podplane.conflist")).unwrap();
    let installed: Value =
        serde_json::from_slice(&conflist::merge(Path::new("/run/podplane/node.sock"), None)).unwrap();
    assert_eq!(sample, installed);
}
