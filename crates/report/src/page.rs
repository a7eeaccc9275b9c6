//! HTML elements of a page: head, sections, tables, figures and escaped text.

use std::fmt::{self, Display, Write};

const STYLE: &str = include_str!("style.css");

/// Writes the start of a page, up to and including the page heading.
///
/// # Errors
/// Returns an error if formatting a value fails.
pub fn begin(page: &mut String, title: &str, subtitle: &str) -> fmt::Result {
    let (title, subtitle) = (Escaped(title), Escaped(subtitle));
    write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n<title>{title} · wgrad</title>\n<style>\n{STYLE}</style>\n\
         </head>\n<body>\n<main>\n<header>\n<h1>{title}</h1>\n<p>{subtitle}</p>\n</header>\n"
    )
}

/// Writes the closing tags of a page that [`begin`] started.
pub fn end(page: &mut String) {
    page.push_str("</main>\n</body>\n</html>\n");
}

/// Writes the heading of a section, followed by `note` unless the note is empty.
///
/// # Errors
/// Returns an error if formatting a value fails.
pub fn section(page: &mut String, heading: &str, note: &str) -> fmt::Result {
    writeln!(page, "<h2>{}</h2>", Escaped(heading))?;
    if !note.is_empty() {
        writeln!(page, "<p class=\"note\">{}</p>", Escaped(note))?;
    }
    Ok(())
}

/// Writes a grid of figures. `write` writes the figures.
///
/// # Errors
/// Returns the error of `write`.
pub fn charts(page: &mut String, write: impl FnOnce(&mut String) -> fmt::Result) -> fmt::Result {
    page.push_str("<section class=\"charts\">\n");
    write(page)?;
    page.push_str("</section>\n");
    Ok(())
}

/// Writes the summary of a page: a headline and a list of sentences.
///
/// # Errors
/// Returns an error if formatting a value fails.
pub fn summary(page: &mut String, headline: &str, sentences: &[String]) -> fmt::Result {
    write!(page, "<section class=\"summary\">\n<p><strong>{}</strong></p>\n<ul>\n", Escaped(headline))?;
    for sentence in sentences {
        writeln!(page, "<li>{}</li>", Escaped(sentence))?;
    }
    // Write a placeholder, because an empty list would not be visible.
    if sentences.is_empty() {
        page.push_str("<li>No figures.</li>\n");
    }
    page.push_str("</ul>\n</section>\n");
    Ok(())
}

/// Writes a table with a header row. The first cell of each other row is a row header.
///
/// # Errors
/// Returns an error if formatting a value fails.
pub fn table(page: &mut String, columns: &[&str], rows: &[Vec<String>]) -> fmt::Result {
    page.push_str("<div class=\"scroll\">\n<table>\n<thead><tr>");
    for column in columns {
        write!(page, "<th>{}</th>", Escaped(column))?;
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        page.push_str("<tr>");
        for (index, cell) in row.iter().enumerate() {
            let element = if index == 0 { "th" } else { "td" };
            write!(page, "<{element}>{}</{element}>", Escaped(cell))?;
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table>\n</div>\n");
    Ok(())
}

/// Writes a table that is collapsed until the reader opens it.
///
/// # Errors
/// Returns an error if formatting a value fails.
pub fn folded_table(page: &mut String, summary: &str, columns: &[&str], rows: &[Vec<String>]) -> fmt::Result {
    writeln!(page, "<details><summary>{}</summary>", Escaped(summary))?;
    table(page, columns, rows)?;
    page.push_str("</details>\n");
    Ok(())
}

/// Formats a value with three or four significant digits: `0.01234`, `2.301`, `1.20e-7`.
pub fn number(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if !value.is_finite() => "not finite".to_owned(),
        0.0 => "0".to_owned(),
        _ if !(1e-3..1e5).contains(&size) => format!("{value:.2e}"),
        _ => {
            let digits = (3.0 - size.log10().floor()).clamp(0.0, 6.0) as usize;
            format!("{value:.digits$}")
        }
    }
}

/// Writes a figure with a caption and a chart. `below` writes the contents under the chart.
///
/// # Errors
/// Returns the error of `below`, or an error if formatting a value fails.
pub fn figure(
    page: &mut String,
    caption: &str,
    chart: &crate::chart::Chart<'_>,
    below: impl FnOnce(&mut String) -> fmt::Result,
) -> fmt::Result {
    write!(page, "<figure>\n<figcaption>{}</figcaption>\n", Escaped(caption))?;
    crate::chart::write(page, chart)?;
    below(page)?;
    page.push_str("</figure>\n");
    Ok(())
}

/// Writes a figure that is as wide as the page. `below` writes the contents under the chart.
///
/// # Errors
/// Returns the error of `below`, or an error if formatting a value fails.
pub fn wide_figure(
    page: &mut String,
    caption: &str,
    chart: &crate::chart::Chart<'_>,
    below: impl FnOnce(&mut String) -> fmt::Result,
) -> fmt::Result {
    write!(page, "<figure class=\"wide\">\n<figcaption>{}</figcaption>\n", Escaped(caption))?;
    crate::chart::write_wide(page, chart)?;
    below(page)?;
    page.push_str("</figure>\n");
    Ok(())
}

/// Wrapper that escapes text for HTML and SVG elements and quoted attributes when formatted.
pub struct Escaped<'a>(pub &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;"),
                '<' => f.write_str("&lt;"),
                '>' => f.write_str("&gt;"),
                '"' => f.write_str("&quot;"),
                '\'' => f.write_str("&#39;"),
                c => f.write_char(c),
            }?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_or_four_significant_digits() {
        let texts = [0.0, 2.30126, 0.012345, 12_345.6, 123_456.0, -0.5, 1.2e-7, f64::NAN].map(number);
        assert_eq!(texts, ["0", "2.301", "0.01235", "12346", "1.23e5", "-0.5000", "1.20e-7", "not finite"]);
    }
}
