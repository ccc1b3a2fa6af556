//! The HTML of a report.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use parm::{MadeBy, counted, page};
use parm_cli::tools::plot::ImageSize;
use parm_figures::{self as figures, Drawing};
use serde_json::Value;

use crate::comparison::{Comparison, Difference, Verdict};
use crate::folder::{Entry, Folder, Kind};
use crate::result::drawings;

/// The size of plots, before they are fitted to the page.
const SIZE: ImageSize = ImageSize { width: 900, height: 430 };
/// The page loads nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; \
    form-action 'none'";
/// The most lines of a table of numbers.
const MOST_LINES: usize = 1000;

/// The page of a folder, and of its comparison with another one.
pub(crate) fn page(title: &str, folder: &Folder, comparison: Option<&Comparison>) -> String {
    let results: Vec<(Kind, &Entry)> = folder.results().collect();
    let [light, dark] = figures::page_variables();
    let colors = format!(
        ".plot {{ {light} }}\n@media (prefers-color-scheme: dark) {{ .plot {{ {dark} }} }}\n\
        @media print {{ .plot {{ {light} }} }}\n"
    );
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title) }
                style { (PreEscaped(page::STYLE)) (PreEscaped(colors)) (PreEscaped(include_str!("page.css"))) }
            }
            body {
                main {
                    header { h1 { (title) } span.soft { (counted(results.len() as u64, "result")) } }
                    @if let Some(comparison) = comparison { (differences(comparison)) }
                    nav aria-label="Results" {
                        section {
                            h2 { "Results" }
                            ul {
                                @for (at, (kind, entry)) in results.iter().enumerate() {
                                    li { a href=(format!("#result-{at}")) { (entry.name) } ", " (kind.name()) }
                                }
                            }
                        }
                    }
                    @for (at, (kind, entry)) in results.iter().enumerate() { (result(at, *kind, entry)) }
                    (files(folder))
                }
                div id="hint" role="status" hidden {}
                script { (PreEscaped(include_str!("page.js"))) }
            }
        }
    }
    .into_string()
}

/// The verdict, and the table of differences.
fn differences(comparison: &Comparison) -> Markup {
    let count = |verdict| comparison.count(verdict);
    let found = [Verdict::Better, Verdict::Worse, Verdict::Open, Verdict::Unknown]
        .map(|verdict| (count(verdict), verdict.name()))
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect::<Vec<_>>()
        .join(", ");
    html! {
        section {
            h2 { "Comparison" }
            p.verdict { (format!("Of {}: {found}.", counted(comparison.differences.len() as u64, "quantity"))) }
            div.scroll tabindex="0" {
                table {
                    thead {
                        tr {
                            th scope="col" { "quantity" }
                            th scope="col" { "file" }
                            th.n scope="col" { "pairs" }
                            th.n scope="col" { "here" }
                            th.n scope="col" { "there" }
                            th.n scope="col" { "difference" }
                            th.n scope="col" { "95 % interval" }
                            th scope="col" { "verdict" }
                        }
                    }
                    tbody { @for difference in &comparison.differences { (row(difference)) } }
                }
            }
            p.soft {
                "Several pairs are files of the same name in several subfolders: the interval is that of the mean \
                 of their differences, by Student's t distribution. One pair has an interval if both results have one, \
                 and then it takes them for independent. With many quantities, one in twenty intervals misses by chance."
            }
        }
    }
}

fn row(difference: &Difference) -> Markup {
    let class = match difference.verdict {
        Verdict::Better => "good",
        Verdict::Worse => "bad",
        Verdict::Open | Verdict::Unknown => "soft",
    };
    let interval =
        difference.interval.map(|interval| format!("{} to {}", number(interval.low), number(interval.high)));
    html! {
        tr {
            td { (difference.name) }
            td { (difference.file) }
            td.n { (difference.pairs) }
            td.n { (number(difference.value)) }
            td.n { (number(difference.other)) }
            td.n { (number(difference.difference())) }
            td.n { (interval.unwrap_or_else(|| "–".to_owned())) }
            td class=(class) { (difference.verdict.name()) }
        }
    }
}

/// Four significant digits.
fn number(value: f64) -> String {
    let decimals = if value == 0.0 { 0 } else { (3 - value.abs().log10().floor() as i32).clamp(0, 12) };
    format!("{value:.*}", decimals as usize).replace('-', "−")
}

/// The section of a result.
fn result(at: usize, kind: Kind, entry: &Entry) -> Markup {
    html! {
        section id=(format!("result-{at}")) {
            h2 { code { (entry.name) } " " span.soft { (kind.name()) } }
            @match drawings(kind, entry) {
                Ok(drawings) => @for (caption, drawing) in drawings { (plot(caption, &drawing)) },
                Err(error) => p.warn { "Not drawn: " (format!("{error:#}")) },
            }
            @if kind == Kind::Code { (fields(&entry.value)) }
            @if let Some(made_by) = entry.made_by() { (provenance(&made_by)) }
        }
    }
}

/// A plot with its numbers.
fn plot(caption: &str, drawing: &Drawing) -> Markup {
    match figures::page_svg(drawing, SIZE) {
        Ok(svg) => html! {
            figure {
                figcaption { (caption) }
                div.plot { (PreEscaped(svg)) }
            }
            (numbers(caption, drawing))
        },
        Err(error) => html! {
            p.warn { "Not drawn: " (caption) ": " (format!("{error:#}")) }
            (numbers(caption, drawing))
        },
    }
}

/// The numbers of a plot as a table, for who does not see it.
fn numbers(caption: &str, drawing: &Drawing) -> Markup {
    let table = figures::numbers(drawing);
    html! {
        details {
            summary { "Numbers: " (caption) }
            div.scroll tabindex="0" {
                table {
                    thead { tr { @for name in table.columns { th scope="col" { (name) } } } }
                    tbody {
                        @for line in table.lines.iter().take(MOST_LINES) { tr { @for cell in line { td { (cell) } } } }
                    }
                }
            }
            @if table.lines.len() > MOST_LINES {
                p.soft { "The first " (MOST_LINES) " of " (table.lines.len()) " lines; parm-plot --data writes all." }
            }
        }
    }
}

/// The fields of an object, by name.
fn fields(value: &Value) -> Markup {
    let object = value.as_object();
    html! {
        div.scroll tabindex="0" {
            table {
                tbody {
                    @for (name, value) in object.into_iter().flatten().filter(|(name, _)| *name != "made_by") {
                        tr { th scope="row" { (name) } td.long { code { (plain(value)) } } }
                    }
                }
            }
        }
    }
}

/// A value as text, a string without its quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What made a file.
fn provenance(made_by: &MadeBy) -> Markup {
    let commit = made_by.commit.as_ref().map(|commit| format!(", commit {commit}")).unwrap_or_default();
    html! {
        details {
            summary { "Made by" }
            pre { code { (made_by.command) } }
            p.soft { "Version " (made_by.version) (commit) }
            @if !made_by.inputs.is_empty() {
                h3 { "Inputs" }
                div.scroll tabindex="0" {
                    table {
                        thead { tr { th scope="col" { "name" } th scope="col" { "SHA-256" } } }
                        tbody {
                            @for input in &made_by.inputs {
                                tr { td { (input.name) } td { code { (input.sha256.as_deref().unwrap_or("–")) } } }
                            }
                        }
                    }
                }
            }
            @if !made_by.options.is_empty() {
                h3 { "Options" }
                div.scroll tabindex="0" {
                    table {
                        tbody {
                            @for (name, value) in made_by.options.iter().filter(|(_, value)| !value.is_null()) {
                                tr { th scope="row" { (name) } td.long { code { (plain(value)) } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// All files of the folder.
fn files(folder: &Folder) -> Markup {
    let unread = folder.files.iter().filter(|file| file.error.is_some());
    html! {
        section {
            h2 { "Files" }
            @for file in unread {
                p.warn { code { (file.name) } ": not read: " (file.error.as_deref().unwrap_or_default()) }
            }
            details {
                summary { (counted(folder.files.len() as u64, "file")) }
                div.scroll tabindex="0" {
                    table {
                        thead { tr { th scope="col" { "name" } th.n scope="col" { "bytes" } th scope="col" { "what it is" } } }
                        tbody {
                            @for file in &folder.files {
                                tr {
                                    td { (file.name) }
                                    td.n { (file.bytes) }
                                    td { (file.kind.map_or("–", Kind::name)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
