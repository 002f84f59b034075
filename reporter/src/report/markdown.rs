//! FINAL_REPORT.md: the document as GitHub-flavoured Markdown. It knows the document only.

use std::fmt::Write;

use super::document::{Block, Cell, Document, Mood, Table};

/// Columns of a table up to which its cells are padded.
const PADDED_MAX: usize = 120;

/// The document as Markdown.
pub fn render(document: &Document) -> String {
    let mut out = String::new();
    let stamp = &document.stamp;
    let _ = writeln!(out, "# {}: {} — {}\n", document.title, stamp.word, stamp.note);
    let _ = writeln!(out, "{}\n", document.subtitle);
    for notice in &document.notices {
        let kind = match notice.mood {
            Mood::Bad => "CAUTION",
            Mood::Doubt => "WARNING",
            Mood::Good | Mood::Plain => "NOTE",
        };
        let _ = writeln!(out, "> [!{kind}]\n> **{}** {}\n", notice.head, escape(&notice.text));
    }
    if !document.headline.is_empty() {
        headline(&mut out, document);
    }
    for section in &document.sections {
        let _ = writeln!(out, "## {}\n", section.title);
        section.blocks.iter().for_each(|block| write_block(&mut out, block));
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn headline(out: &mut String, document: &Document) {
    let names: Vec<&str> = document.headline.iter().map(|figure| figure.name.as_str()).collect();
    let values: Vec<String> =
        document.headline.iter().map(|figure| format!("**{}**", figure.value)).collect();
    let notes: Vec<&str> = document.headline.iter().map(|figure| figure.note.as_str()).collect();
    let _ = writeln!(out, "| {} |", names.join(" | "));
    let _ = writeln!(out, "|{}", ":---:|".repeat(names.len()));
    let _ = writeln!(out, "| {} |", values.join(" | "));
    let _ = writeln!(out, "| {} |\n", notes.join(" | "));
}

fn write_block(out: &mut String, block: &Block) {
    let _ = match block {
        Block::Text(text) => writeln!(out, "{}\n", escape(text)),
        Block::Heading(text) => writeln!(out, "### {}\n", escape(text)),
        Block::Table(table) => {
            write_table(out, table);
            Ok(())
        }
        Block::Chart { name, caption, .. } => {
            writeln!(out, "![{}](charts/{name}.svg)\n\n*{}*\n", escape(name), escape(caption))
        }
        Block::Code(text) => writeln!(out, "```sh\n{text}\n```\n"),
        Block::List(items) => {
            items.iter().for_each(|item| {
                let _ = writeln!(out, "- {}", escape(item));
            });
            writeln!(out)
        }
    };
}

fn write_table(out: &mut String, table: &Table) {
    let heads: Vec<String> = table.heads.iter().map(|head| cell(&head.text)).collect();
    let rows: Vec<Vec<String>> = table
        .rows
        .iter()
        .map(|row| {
            let text = |each: &Cell| match each.mood {
                Mood::Bad => format!("**{}**", cell(&each.text)),
                Mood::Plain | Mood::Good | Mood::Doubt => cell(&each.text),
            };
            row.iter().map(text).collect()
        })
        .collect();
    let widths = widths(&heads, &rows);
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&table.heads).zip(&widths);
        let padded = padded.map(|((cell, head), width)| match head.left {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        });
        format!("| {} |", padded.collect::<Vec<_>>().join(" | "))
    };
    let _ = writeln!(out, "{}", line(&heads));
    let rule = |left: bool| if left { ":---|" } else { "---:|" };
    let rules: String = table.heads.iter().map(|head| rule(head.left)).collect();
    let _ = writeln!(out, "|{rules}");
    for row in &rows {
        let _ = writeln!(out, "{}", line(row));
    }
    let _ = writeln!(out);
}

/// Columns stand under each other where the file is read as it is, unless a cell is a sentence.
fn widths(heads: &[String], rows: &[Vec<String>]) -> Vec<usize> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).chain(heads.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line: usize = widths.iter().map(|width| width + 3).sum();
    if line <= PADDED_MAX { widths } else { vec![0; heads.len()] }
}

fn cell(text: &str) -> String {
    escape(text).replace('|', "\\|").replace('\n', " ")
}

/// Keeps what a server or a user wrote from becoming markup. Code spans stay.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut code = false;
    for character in text.chars() {
        match character {
            '`' => code = !code,
            '*' | '_' | '<' | '[' if !code => out.push('\\'),
            _ => {}
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_cell_stays_text() {
        assert_eq!(cell("a|b <i> `x_y` z_"), "a\\|b \\<i> `x_y` z\\_");
    }
}
