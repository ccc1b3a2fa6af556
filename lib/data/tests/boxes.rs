//! Lists of boxes, good and bad.

use std::fs;
use std::path::Path;

use parm_data_sets::boxes::{BoxError, Boxed, csv, cub};
use parm_data_sets::{DataError, Fault};
use proptest::prelude::*;

fn boxed(corners: [f64; 4]) -> Boxed {
    Boxed { picture: "x.png".into(), size: None, corners }
}

#[test]
fn boxes_are_cut_to_the_picture_and_scaled() {
    assert_eq!(boxed([0., 0., 10., 20.]).numbers(10, 20).unwrap(), [-1., -1., 2., 2.]);
    assert_eq!(boxed([5., 5., 10., 10.]).numbers(10, 20).unwrap(), [0., -0.5, 1., 0.5]);
    assert_eq!(boxed([-5., 10., 50., 30.]).numbers(10, 20).unwrap(), [-1., 0., 2., 1.]);
    for nothing in [[10., 0., 20., 5.], [5., 5., 5., 9.], [6., 5., 5., 9.], [0., 25., 5., 30.]] {
        let error = boxed(nothing).numbers(10, 20).unwrap_err();
        assert!(matches!(error, BoxError::Nothing { corners, width: 10, height: 20 } if corners == nothing));
    }
    let sized = Boxed { size: Some((10, 20)), ..boxed([0., 0., 5., 5.]) };
    assert!(sized.numbers(10, 20).is_ok());
    let error = sized.numbers(20, 10).unwrap_err();
    assert!(matches!(error, BoxError::Size { found: (20, 10), expected: (10, 20) }));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn numbers_give_the_box_back(
        (w, h, x, y, dx, dy) in (1_usize..5000, 1_usize..5000, 0.0_f64..0.9, 0.0_f64..0.9, 0.05..1.0, 0.05..1.0)
    ) {
        let (width, height) = (w as f64, h as f64);
        let corners = [x * width, y * height, f64::min(x + dx, 1.0) * width, f64::min(y + dy, 1.0) * height];
        let [a, b, c, d] = boxed(corners).numbers(w, h).unwrap().map(f64::from);
        let (left, top) = ((a + 1.0) * width / 2.0, (b + 1.0) * height / 2.0);
        let back = [left, top, left + c * width / 2.0, top + d * height / 2.0];
        for (back, corner) in back.iter().zip(corners) {
            prop_assert!((back - corner).abs() < 1e-6 * width.max(height), "{back} for {corner}");
        }
    }
}

fn read(text: &str) -> Result<Vec<Boxed>, Fault> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("boxes.csv");
    fs::write(&path, text).unwrap();
    csv(&path, Path::new("pictures")).map_err(|error| {
        assert_eq!(error.path, path);
        error.fault
    })
}

#[test]
fn csv_columns_are_found_by_name() {
    let text =
        "ymax, xmin,class,filename,ymin,xmax\n40,1,\"a, b\",\"x, y.png\",2,30.5\n7,4,b,deep/z.jpg,5,6\n";
    let boxes = read(text).unwrap();
    assert_eq!(boxes[0], Boxed { picture: "pictures/x, y.png".into(), ..boxed([1., 2., 30.5, 40.]) });
    assert_eq!(boxes[1], Boxed { picture: "pictures/deep/z.jpg".into(), ..boxed([4., 5., 6., 7.]) });
    let sized = read("filename,width,height,xmin,ymin,xmax,ymax\nx.png,50,60,1,2,3,4\n").unwrap();
    assert_eq!(sized[0].size, Some((50, 60)));
}

#[test]
fn bad_csv_is_refused() {
    let refused = |text: &str| match read(text).unwrap_err() {
        Fault::Boxes(error) => error,
        other => panic!("{other:?}"),
    };
    let header = "filename,xmin,ymin,xmax,ymax\n";
    assert!(matches!(refused("filename,xmin,ymin,ymax\n"), BoxError::NoColumn("xmax")));
    assert!(matches!(refused(""), BoxError::NoColumn("filename")));
    assert!(matches!(refused(header), BoxError::NoBoxes));
    assert!(matches!(refused(&format!("{header}x.png,1,2,3\n")), BoxError::Csv(_)));
    for (number, line) in [("a", 2), ("inf", 2), ("NaN", 2), ("", 2)] {
        let error = refused(&format!("{header}x.png,1,2,{number},4\n"));
        assert!(
            matches!(&error, BoxError::Line { line: l, found, .. } if *l == line && found == number),
            "{error:?}"
        );
    }
    for name in ["../x.png", "/etc/x.png", "a/../../x.png", ""] {
        let error = refused(&format!("{header}{name},1,2,3,4\n"));
        assert!(matches!(&error, BoxError::Outside { line: 2, found } if found == name), "{error:?}");
    }
    let missing = csv(Path::new("nowhere.csv"), Path::new("")).unwrap_err();
    assert!(matches!(missing.fault, Fault::Io("open", _)));
}

/// CUB-200-2011's tables, each with one text replaced by another.
fn birds(table: &str, from: &str, to: &str, train: bool) -> Result<Vec<Boxed>, DataError> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("images.txt", "1 001.Albatross/a.jpg\n2 001.Albatross/b.jpg\n3 002.Crow/c.jpg\n"),
        ("bounding_boxes.txt", "1 60.0 27.0 325.0 304.0\n2 139.0 30.0 153.0 264.0\n3 1.5 2.5 3.0 4.0\n"),
        ("train_test_split.txt", "1 0\n2 1\n3 0\n"),
    ] {
        let text = if name == table { text.replacen(from, to, 1) } else { text.into() };
        fs::write(folder.path().join(name), text).unwrap();
    }
    let mut boxes = cub(folder.path(), train)?;
    for boxed in &mut boxes {
        boxed.picture = boxed.picture.strip_prefix(folder.path()).unwrap().into();
    }
    Ok(boxes)
}

#[test]
fn birds_are_divided_as_their_tables_say() {
    let test = birds("", "", "", false).unwrap();
    let picture = |name: &str| format!("images/{name}").into();
    assert_eq!(test[0], Boxed { picture: picture("001.Albatross/a.jpg"), ..boxed([60., 27., 385., 331.]) });
    assert_eq!(test[1], Boxed { picture: picture("002.Crow/c.jpg"), ..boxed([1.5, 2.5, 4.5, 6.5]) });
    let train = birds("", "", "", true).unwrap();
    assert_eq!(train, [Boxed { picture: picture("001.Albatross/b.jpg"), ..boxed([139., 30., 292., 294.]) }]);
}

#[test]
fn bad_tables_of_birds_are_refused() {
    let refused = |table: &str, from: &str, to: &str| {
        let error = birds(table, from, to, true).unwrap_err();
        assert!(error.path.ends_with(table), "{error:?}");
        match error.fault {
            Fault::Boxes(error) => error,
            other => panic!("{other:?}"),
        }
    };
    let line =
        |error: BoxError, expected: u64| matches!(error, BoxError::Line { line, .. } if line == expected);
    assert!(line(refused("images.txt", "2 001.Albatross/b.jpg", "2"), 2));
    assert!(line(refused("bounding_boxes.txt", "153.0", "wide"), 2));
    assert!(line(refused("bounding_boxes.txt", " 4.0\n", "\n"), 3));
    assert!(line(refused("train_test_split.txt", "3 0", "3 2"), 3));
    assert!(
        matches!(refused("bounding_boxes.txt", "2 139.0", "4 139.0"), BoxError::NoEntry(id) if id == "2")
    );
    assert!(matches!(refused("train_test_split.txt", "1 0\n", ""), BoxError::NoEntry(id) if id == "1"));
    assert!(matches!(
        refused("images.txt", "001.Albatross/b.jpg", "../b.jpg"),
        BoxError::Outside { line: 2, .. }
    ));
    let empty = birds("train_test_split.txt", "2 1", "2 0", true).unwrap_err();
    assert!(matches!(empty.fault, Fault::Boxes(BoxError::NoBoxes)));
    let missing = cub(Path::new("nowhere"), true).unwrap_err();
    assert!(matches!(missing.fault, Fault::Io("read", _)));
}
