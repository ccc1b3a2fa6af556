//! Lists of pictures with a label each: CSV files with the columns `filename` and `label`.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use crate::boxes::below;
pub use crate::error::ListError;
use crate::error::{At, DataError, Doing};
use crate::folder::Folder;

/// Reads a list. Columns are found by name, and others are ignored; names of files are relative to `pictures`. Labels
/// are words, whose classes are sorted; or numbers, if all are, which are labels as they stand and have no names.
pub fn csv(file: &Path, pictures: &Path) -> Result<Folder, DataError> {
    let source = File::open(file).doing("open").at(file)?;
    read_csv(source, pictures).at(file)
}

fn read_csv(source: impl std::io::Read, pictures: &Path) -> Result<Folder, ListError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(source);
    let headers = reader.headers()?.clone();
    let need = |name| headers.iter().position(|header| header == name).ok_or(ListError::NoColumn(name));
    let (file, label) = (need("filename")?, need("label")?);
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |column: usize| record.get(column).unwrap_or_default().to_owned();
        let name = cell(file);
        let picture = below(pictures, &name).ok_or(ListError::Outside { line, found: name })?;
        rows.push((picture, cell(label), line));
    }
    if rows.is_empty() {
        return Err(ListError::Empty);
    }
    let numbers: Option<Vec<usize>> =
        rows.iter().map(|(_, label, _)| label.parse::<u32>().ok().map(|label| label as usize)).collect();
    let classes: BTreeSet<&String> = rows.iter().map(|(_, label, _)| label).collect();
    let classes: Vec<String> = classes.into_iter().cloned().collect();
    let mut files = Vec::new();
    for (row, (picture, label, line)) in rows.iter().enumerate() {
        let found = match &numbers {
            Some(numbers) => numbers.get(row).copied(),
            None => classes.binary_search(label).ok().filter(|_| !label.is_empty()),
        };
        files.push((picture.clone(), found.ok_or(ListError::NoLabel { line: *line })?));
    }
    let classes = if numbers.is_some() { Vec::new() } else { classes };
    Ok(Folder { classes, files, left_out: Vec::new(), hidden: 0 })
}
