//! Bounding boxes: one box for each picture, as the four numbers that a model learns.
//!
//! A box with its corner at (x, y), of w × h pixels in a picture of W × H, is cut at the borders of the
//! picture and becomes `[2x/W − 1, 2y/H − 1, 2w/W, 2h/H]`. The inverse is x = (a + 1)·W/2, y = (b + 1)·H/2, w
//! = c·W/2, h = d·H/2. Two sorts of lists are read: a CSV file with the columns `filename`, `xmin`, `ymin`,
//! `xmax` and `ymax`, and CUB-200-2011's three tables.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

pub use crate::error::BoxError;
use crate::error::{At, DataError, Doing};

/// A picture and the box in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Boxed {
    /// The picture.
    pub picture: PathBuf,
    /// Its width and height, if the list has them.
    pub size: Option<(usize, usize)>,
    /// The corners in pixels: left, top, right, bottom.
    pub corners: [f64; 4],
}

impl Boxed {
    /// The four numbers, for a picture of this size.
    pub fn numbers(&self, width: usize, height: usize) -> Result<[f32; 4], BoxError> {
        if let Some(expected) = self.size.filter(|&size| size != (width, height)) {
            return Err(BoxError::Size { found: (width, height), expected });
        }
        let (w, h) = (width as f64, height as f64);
        let [left, top, right, bottom] = self.corners;
        let (left, right) = (left.clamp(0.0, w), right.clamp(0.0, w));
        let (top, bottom) = (top.clamp(0.0, h), bottom.clamp(0.0, h));
        if left >= right || top >= bottom {
            return Err(BoxError::Nothing { corners: self.corners, width, height });
        }
        let numbers =
            [2.0 * left / w - 1.0, 2.0 * top / h - 1.0, 2.0 * (right - left) / w, 2.0 * (bottom - top) / h];
        Ok(numbers.map(|number| number as f32))
    }
}

/// Reads a CSV file. Columns are found by name. If there are `width` and `height`, the pictures must have
/// that size. Other columns are ignored.
pub fn csv(file: &Path, pictures: &Path) -> Result<Vec<Boxed>, DataError> {
    let source = File::open(file).doing("open").at(file)?;
    read_csv(source, pictures).at(file)
}

fn read_csv(source: impl std::io::Read, pictures: &Path) -> Result<Vec<Boxed>, BoxError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(source);
    let headers = reader.headers()?.clone();
    let find = |name: &str| headers.iter().position(|header| header == name);
    let need = |name| find(name).ok_or(BoxError::NoColumn(name));
    let file = need("filename")?;
    let corners = [need("xmin")?, need("ymin")?, need("xmax")?, need("ymax")?];
    let size = find("width").zip(find("height"));
    let mut boxes = Vec::new();
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |column: usize| record.get(column).unwrap_or_default();
        let size = match size {
            Some((width, height)) => {
                Some((number(cell(width), line, PIXELS)?, number(cell(height), line, PIXELS)?))
            }
            None => None,
        };
        boxes.push(Boxed {
            picture: below(pictures, cell(file))
                .ok_or_else(|| BoxError::Outside { line, found: cell(file).into() })?,
            size,
            corners: corner_numbers(corners.map(cell), line)?,
        });
    }
    if boxes.is_empty() { Err(BoxError::NoBoxes) } else { Ok(boxes) }
}

const PIXELS: &str = "a number of pixels";

/// Reads the tables of CUB-200-2011 in its directory: the boxes of its training or test pictures.
pub fn cub(directory: &Path, train: bool) -> Result<Vec<Boxed>, DataError> {
    let names = Table::open(directory, "images.txt", "ID PATH", 2)?;
    let rectangles = Table::open(directory, "bounding_boxes.txt", "ID X Y WIDTH HEIGHT", 5)?;
    let splits = Table::open(directory, "train_test_split.txt", "ID 0|1", 2)?;
    let mut boxes = Vec::new();
    for (id, line, name) in &names.rows {
        let (line_of_split, split) = splits.entry(id)?;
        let is_train = match &*split[0] {
            "0" => false,
            "1" => true,
            found => {
                let found = found.to_owned();
                let error = BoxError::Line { line: line_of_split, found, expected: "0 or 1" };
                return Err(error).at(&splits.path);
            }
        };
        if is_train != train {
            continue;
        }
        let (line_of_box, rectangle) = rectangles.entry(id)?;
        let [x, y, w, h] = std::array::from_fn(|i| &*rectangle[i]);
        let [x, y, w, h] = corner_numbers([x, y, w, h], line_of_box).at(&rectangles.path)?;
        let picture = below(&directory.join("images"), &name[0]);
        let outside = || BoxError::Outside { line: *line, found: name[0].clone() };
        let picture = picture.ok_or_else(outside).at(&names.path)?;
        boxes.push(Boxed { picture, size: None, corners: [x, y, x + w, y + h] });
    }
    if boxes.is_empty() { Err(BoxError::NoBoxes).at(&names.path) } else { Ok(boxes) }
}

/// A table of an id and some words a line.
struct Table {
    path: PathBuf,
    /// Id, line and words of each row.
    rows: Vec<(String, u64, Vec<String>)>,
    /// The row of each id.
    index: HashMap<String, usize>,
}

impl Table {
    /// Reads a table of `columns` words a line.
    fn open(directory: &Path, name: &str, expected: &'static str, columns: usize) -> Result<Self, DataError> {
        let path = directory.join(name);
        let text = fs::read_to_string(&path).doing("read").at(&path)?;
        let mut table = Self { path, rows: Vec::new(), index: HashMap::new() };
        for (line, text) in (1..).zip(text.lines()) {
            let mut words = text.split_whitespace().map(str::to_owned);
            let (Some(id), words) = (words.next(), words.by_ref().collect::<Vec<_>>()) else { continue };
            if words.len() + 1 != columns {
                return Err(BoxError::Line { line, found: text.into(), expected }).at(&table.path);
            }
            table.index.insert(id.clone(), table.rows.len());
            table.rows.push((id, line, words));
        }
        Ok(table)
    }

    /// The line and the words of an id.
    fn entry(&self, id: &str) -> Result<(u64, &[String]), DataError> {
        let row = self.index.get(id).and_then(|&row| self.rows.get(row));
        let (_, line, words) = row.ok_or_else(|| BoxError::NoEntry(id.into())).at(&self.path)?;
        Ok((*line, words))
    }
}

fn number<T: std::str::FromStr>(text: &str, line: u64, expected: &'static str) -> Result<T, BoxError> {
    text.parse().map_err(|_| BoxError::Line { line, found: text.into(), expected })
}

fn corner_numbers(texts: [&str; 4], line: u64) -> Result<[f64; 4], BoxError> {
    let mut numbers = [0.0_f64; 4];
    for (value, text) in numbers.iter_mut().zip(texts) {
        *value = number(text, line, PIXELS)?;
        if !value.is_finite() {
            return Err(BoxError::Line { line, found: text.into(), expected: PIXELS });
        }
    }
    Ok(numbers)
}

/// A path below a directory, which all paths of a list must be; none if it leads out of it.
pub(crate) fn below(directory: &Path, name: &str) -> Option<PathBuf> {
    use std::path::Component;
    let path = Path::new(name);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    (!name.is_empty() && plain).then(|| directory.join(path))
}
