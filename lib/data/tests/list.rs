//! Lists of pictures with labels.

use std::fs;
use std::path::Path;

use parm_data_sets::folder::Folder;
use parm_data_sets::{DataError, list};

fn read(text: &str) -> Result<Folder, DataError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    list::csv(file.path(), Path::new("set"))
}

#[test]
fn words_become_classes_and_numbers_are_labels() {
    let words = read("label,other,filename\nzebra,1,a.png\nant,2,b/c.png\nzebra,3,d.png\n").unwrap();
    assert_eq!(words.classes, ["ant", "zebra"]);
    let labels: Vec<_> = words.files.iter().map(|(_, label)| *label).collect();
    assert_eq!(labels, [1, 0, 1]);
    assert_eq!(words.files[1].0, Path::new("set/b/c.png"));
    let numbers = read("filename,label\na.png,7\nb.png,300\n").unwrap();
    let labels: Vec<_> = numbers.files.iter().map(|(_, label)| *label).collect();
    assert_eq!((numbers.classes.len(), labels), (0, vec![7, 300]));
}

#[test]
fn bad_lists_are_refused() {
    for (text, message) in [
        ("filename\na.png\n", "found no column 'label', expected filename and label"),
        ("filename,label\n", "found no pictures"),
        ("filename,label\n../a.png,1\n", "line 2: found '../a.png', expected a path below the directory"),
        ("filename,label\na.png,x\nb.png,\n", "line 3: found no label, expected a word or a number"),
        ("filename,label\na.png\n", "cannot read CSV"),
    ] {
        let error = read(text).unwrap_err().fault.to_string();
        assert!(error.starts_with(message), "{error}");
    }
}
