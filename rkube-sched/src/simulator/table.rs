//! Text in columns.

use std::fmt::{self, Display, Formatter, Write};

use rkube_api::client::ObjectKey;
use serde::Serializer;

/// Writes rows under a header, each column as wide as its longest cell.
pub(super) fn write(f: &mut Formatter<'_>, header: &[&str], rows: &[Vec<String>]) -> fmt::Result {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, &width) in cells.zip(&widths) {
            write!(text, "{cell:width$}   ")?;
        }
        writeln!(f, "{}", text.trim_end())
    };
    line(&mut header.iter().copied())?;
    rows.iter().try_for_each(|row| line(&mut row.iter().map(String::as_str)))
}

/// A key in JSON is `namespace/name`.
pub(super) fn text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// As [`text`], for many.
pub(super) fn texts<S: Serializer>(values: &[ObjectKey], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}

/// Names in one line.
pub(super) fn listed<T: Display>(values: &[T]) -> String {
    let names: Vec<_> = values.iter().map(ToString::to_string).collect();
    names.join(", ")
}
