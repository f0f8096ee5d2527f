use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("podplane-manifests-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_folder_means_every_manifest_below_it_in_name_order() {
    let folder = Folder::new("order");
    folder.write("b.yml", "b");
    folder.write("a.yaml", "a");
    folder.write("sub/c.json", "c");
    folder.write("notes.txt", "no manifest");
    let texts: Vec<String> =
        read(std::slice::from_ref(&folder.0)).unwrap().into_iter().map(|source| source.text).collect();
    assert_eq!(texts, ["a", "b", "c"]);
}

#[test]
fn a_named_file_is_read_whatever_its_extension() {
    let folder = Folder::new("extension");
    folder.write("manifest.txt", "kind: Pod");
    assert_eq!(read(&[folder.0.join("manifest.txt")]).unwrap()[0].text, "kind: Pod");
}

#[test]
fn a_missing_file_is_bad_input_that_names_it() {
    let Err(Failure::BadInput(text)) = read(&[PathBuf::from("/nonexistent/pod.yaml")]) else { panic!("not bad input") };
    assert!(text.contains("/nonexistent/pod.yaml"), "{text}");
}

#[test]
fn a_folder_without_manifests_is_bad_input() {
    let folder = Folder::new("empty");
    assert!(matches!(read(std::slice::from_ref(&folder.0)), Err(Failure::BadInput(_))));
}

#[test]
fn bytes_that_are_not_text_are_bad_input() {
    let folder = Folder::new("bytes");
    fs::write(folder.0.join("x.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    assert!(matches!(read(std::slice::from_ref(&folder.0)), Err(Failure::BadInput(_))));
}
