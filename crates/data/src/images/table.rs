//! Reader of images with a CSV table. Each line of the table has the name of an image, its label and optionally its
//! split.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord, Trim};

use super::{EXTENSIONS, Files, ImageForm, ImageSplits, ImagesProblem, Split, choose, read_splits};
use crate::csv_file::{CsvProblem, line_of};
use crate::error::DataError;
use crate::open::open;

/// Columns and classes of a table of labels with a header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableOptions {
    /// Name of the column of image names, which may lack the file extension. `None`: the first column.
    pub image_column: Option<String>,
    /// Name of the column of labels. `None`: the last column.
    pub label_column: Option<String>,
    /// Name of the column that contains `train`, `validation` (or `val`) or `test`, alone or followed by `_` and more
    /// text. `None`: all images are for training.
    pub split_column: Option<String>,
    /// Labels to use as classes, in this order; lines with other labels are skipped. `None`: all labels, sorted.
    pub classes: Option<Vec<String>>,
}

/// Reads the images listed in `table`. The image files are in `folder` or in the folder of their split, such as
/// `folder/train`.
///
/// # Errors
/// Returns [`DataError::Images`] with the line or file if a column is unknown, an image is missing or listed twice, a
/// split or class is unknown, or an image cannot be decoded. Returns [`DataError::Csv`] or [`DataError::Io`] if the
/// table cannot be read.
pub fn read_table(
    table: &Path,
    folder: &Path,
    form: ImageForm,
    options: &TableOptions,
) -> Result<ImageSplits, DataError> {
    let wrong = |problem| DataError::Images { path: table.to_path_buf(), problem };
    let rows = rows(table, options)?;
    let known: BTreeSet<&String> = rows.iter().map(|row| &row.label).collect();
    let known: Vec<String> = known.into_iter().cloned().collect();
    let classes = choose(&known, options.classes.as_deref()).map_err(wrong)?;
    let labels: HashMap<&str, u32> =
        classes.iter().enumerate().map(|(label, class)| (class.as_str(), label as u32)).collect();

    let mut splits = [Files::default(), Files::default(), Files::default()];
    let (mut lines, mut missing) = (HashMap::new(), Vec::new());
    for row in &rows {
        if let Some(first) = lines.insert(&row.image, row.line) {
            let (line, name) = (row.line, row.image.clone());
            return Err(wrong(ImagesProblem::Twice { line, first, name }));
        }
        let Some(&label) = labels.get(row.label.as_str()) else { continue };
        match find(folder, row) {
            Some(path) => {
                let files = &mut splits[row.split as usize];
                files.paths.push(path);
                files.labels.push(label);
            }
            None => missing.push((row.line, row.image.clone())),
        }
    }
    if !missing.is_empty() {
        return Err(wrong(ImagesProblem::Missing { folder: folder.to_path_buf(), missing }));
    }
    let train = &splits[Split::Train as usize].labels;
    if let Some(label) = (0..classes.len()).find(|&label| !train.contains(&(label as u32))) {
        return Err(wrong(ImagesProblem::Untrained(classes[label].clone())));
    }
    read_splits(folder, splits, &classes, form)
}

struct Row {
    line: u64,
    image: String,
    label: String,
    split: Split,
    /// Name of the split as written in the table, which can also be the name of a folder.
    split_name: String,
}

fn rows(path: &Path, options: &TableOptions) -> Result<Vec<Row>, DataError> {
    let wrong = |problem| DataError::Images { path: path.to_path_buf(), problem };
    let unreadable = |problem| DataError::Csv { path: path.to_path_buf(), problem };
    let read = |error: csv::Error| unreadable(CsvProblem::Read(error.to_string()));
    let mut text = Vec::new();
    open(path)?.read_to_end(&mut text).map_err(DataError::io("read", path))?;
    let mut reader = ReaderBuilder::new().flexible(true).trim(Trim::All).from_reader(&text[..]);
    let header = reader.headers().map_err(read)?.clone();
    if header.len() < 2 {
        return Err(unreadable(CsvProblem::OneColumn { delimiter: ',' }));
    }
    let column = |role, name: Option<&String>, default: usize| match name {
        None => Ok(default),
        Some(name) => header.iter().position(|cell| cell == name).ok_or_else(|| {
            let known = header.iter().collect::<Vec<_>>().join(", ");
            wrong(ImagesProblem::NoColumn { role, column: name.clone(), known })
        }),
    };
    let image = column("images", options.image_column.as_ref(), 0)?;
    let label = column("labels", options.label_column.as_ref(), header.len() - 1)?;
    let split_column = match &options.split_column {
        Some(name) => Some(column("splits", Some(name), 0)?),
        None => None,
    };
    let (mut record, mut rows) = (StringRecord::new(), Vec::new());
    while reader.read_record(&mut record).map_err(read)? {
        let line = record.position().map_or(0, |position| line_of(position, &text));
        if record.len() != header.len() {
            let (expected, found) = (header.len(), record.len());
            return Err(unreadable(CsvProblem::Width { line, expected, found }));
        }
        let cell = |column: usize| record[column].to_owned();
        if cell(label).is_empty() {
            let column = format!("{} ({})", label + 1, &header[label]);
            return Err(unreadable(CsvProblem::EmptyLabel { line, column }));
        }
        let split_name = split_column.map_or_else(|| "train".to_owned(), cell);
        let Some(split) = Split::named(&split_name) else {
            return Err(wrong(ImagesProblem::UnknownSplit { line, found: split_name }));
        };
        rows.push(Row { line, image: cell(image), label: cell(label), split, split_name });
    }
    if rows.is_empty() { Err(unreadable(CsvProblem::Empty)) } else { Ok(rows) }
}

/// Returns the path of the image file of a row: in the folder of its split, otherwise in `folder`. The name in the row
/// may lack the file extension. Returns `None` if there is no such file.
fn find(folder: &Path, row: &Row) -> Option<PathBuf> {
    let names = || {
        let endings = EXTENSIONS.iter().flat_map(|ending| [(*ending).to_owned(), ending.to_uppercase()]);
        let with_ending = endings.map(|ending| format!("{}.{ending}", row.image));
        std::iter::once(row.image.clone()).chain(with_ending)
    };
    let splits = std::iter::once(row.split_name.as_str()).chain(row.split.names().iter().copied());
    let folders: Vec<PathBuf> = splits.map(|name| folder.join(name)).chain([folder.to_path_buf()]).collect();
    folders.iter().flat_map(|folder| names().map(|name| folder.join(name))).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FORM, png};
    use super::*;
    use crate::dataset::{Dataset, Targets};

    fn read(table: &str, images: &[&str], options: &TableOptions) -> Result<ImageSplits, DataError> {
        let folder = tempfile::tempdir().unwrap();
        for (i, image) in images.iter().enumerate() {
            png(&folder.path().join(image), [10 * i as u8, 0, 0]);
        }
        let path = folder.path().join("labels.csv");
        std::fs::write(&path, table).unwrap();
        read_table(&path, folder.path(), FORM, options)
    }

    fn problem(table: &str, images: &[&str], options: &TableOptions) -> ImagesProblem {
        match read(table, images, options) {
            Err(DataError::Images { path, problem }) => {
                assert!(path.ends_with("labels.csv"));
                problem
            }
            other => panic!("expected an image problem, got {other:?}"),
        }
    }

    fn with_split() -> TableOptions {
        TableOptions { split_column: Some("split".into()), ..TableOptions::default() }
    }

    fn pixels_labels_and_classes(dataset: &Dataset) -> (Vec<u8>, &[u32], Vec<&str>) {
        let Targets::Classes { labels, names } = dataset.targets() else { panic!("no classes") };
        let images = dataset.pixels().unwrap().bytes().chunks(12);
        (images.map(|image| image[0]).collect(), labels, names.iter().map(String::as_str).collect())
    }

    #[test]
    fn images_are_found_in_the_order_of_the_table() {
        let table = "id,split,kind\nb,train,wolf\na.png,train,ant\nc,test_new,ant\nd,val,wolf\n";
        let images = ["train/b.png", "a.png", "test/c.PNG", "val/d.png"];
        let parts = read(table, &images, &with_split()).unwrap();
        assert_eq!(pixels_labels_and_classes(&parts.train), (vec![0, 10], &[1, 0][..], vec!["ant", "wolf"]));
        assert_eq!(pixels_labels_and_classes(&parts.test.unwrap()).0, [20]);
        assert_eq!(pixels_labels_and_classes(&parts.validation.unwrap()).0, [30]);
        // Without a column for the split, all images are for training.
        let parts = read(
            "kind,id\nwolf,b\nant,a\n",
            &["b.png", "a.png"],
            &TableOptions {
                image_column: Some("id".into()),
                label_column: Some("kind".into()),
                ..TableOptions::default()
            },
        )
        .unwrap();
        assert_eq!((parts.train.len(), parts.validation, parts.test), (2, None, None));
    }

    #[test]
    fn images_of_labels_that_are_not_chosen_are_not_needed() {
        let table = "id,label\na,ant\nb,wolf\nc,bee\n";
        let classes = Some(vec!["wolf".to_owned(), "ant".to_owned()]);
        let options = TableOptions { classes, ..TableOptions::default() };
        let parts = read(table, &["a.png", "b.png"], &options).unwrap();
        assert_eq!(pixels_labels_and_classes(&parts.train), (vec![0, 10], &[1, 0][..], vec!["wolf", "ant"]));
        let options = TableOptions { classes: Some(vec!["cat".to_owned()]), ..options };
        let (class, known) = ("cat".to_owned(), "ant, bee, wolf".to_owned());
        assert_eq!(problem(table, &[], &options), ImagesProblem::UnknownClass { class, known });
    }

    #[test]
    fn missing_images_are_counted_and_the_first_are_listed() {
        let table = "id,label\na,x\nb,x\nc,y\nd,x\ne,y\n";
        let found = problem(table, &["a.png"], &TableOptions::default());
        let ImagesProblem::Missing { missing, .. } = &found else { panic!("{found:?}") };
        assert_eq!(missing.len(), 4);
        let text = found.to_string();
        for part in ["4 images are missing", "line 3: b", "line 5: d", "and 1 more"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("line 6"), "{text}");
    }

    #[test]
    fn inconsistent_table_is_refused_with_the_line() {
        let plain = TableOptions::default();
        let twice = problem("id,label\na,x\n\na,y\n", &["a.png"], &plain);
        assert_eq!(twice, ImagesProblem::Twice { line: 4, first: 2, name: "a".into() });
        let split = problem("id,split,label\na,training,x\n", &["a.png"], &with_split());
        assert_eq!(split, ImagesProblem::UnknownSplit { line: 2, found: "training".into() });
        let column = problem("id,label\na,x\n", &["a.png"], &with_split());
        assert!(
            matches!(&column, ImagesProblem::NoColumn { known, .. } if known == "id, label"),
            "{column:?}"
        );
        let untrained = problem("id,split,label\na,train,x\nb,test,y\n", &["a.png", "b.png"], &with_split());
        assert_eq!(untrained, ImagesProblem::Untrained("y".into()));
        let csv = |table| match read(table, &["a.png"], &plain) {
            Err(DataError::Csv { problem, .. }) => problem,
            other => panic!("expected a CSV problem, got {other:?}"),
        };
        assert!(matches!(csv("id,label\na,x,z\n"), CsvProblem::Width { line: 2, expected: 2, found: 3 }));
        assert!(matches!(csv("id,label\na,\n"), CsvProblem::EmptyLabel { line: 2, .. }));
        assert_eq!(csv("id,label\n"), CsvProblem::Empty);
        assert!(matches!(csv("id\na\n"), CsvProblem::OneColumn { .. }));
    }
}
