//! Writes the man pages and shell completions of all tools, from their clap definitions and the
//! hand-written parts in man/*.inc: `pages OUTPUT_FOLDER`, run from the root of the project.

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// The date in the pages: that of the release, so that they come out alike on every day.
const DATE: &str = "2026-11-28";

fn main() -> io::Result<()> {
    let output = std::env::args_os().nth(1).ok_or_else(|| io::Error::other("expected an output folder"))?;
    let (pages, completions) = (Path::new(&output).join("man"), Path::new(&output).join("completions"));
    for folder in [&pages, &completions] {
        fs::create_dir_all(folder)?;
    }
    for tool in parm_cli::tools::all() {
        let name = tool.get_name().to_owned();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut tool.clone(), &name, &completions)?;
        }
        // 'help' has no page.
        let mut tool = tool.disable_help_subcommand(true);
        tool.build();
        page(&tool, &pages)?;
        for subcommand in tool.get_subcommands() {
            page(subcommand, &pages)?;
        }
    }
    Ok(())
}

/// One page: what clap knows, then what a person wrote.
fn page(command: &Command, folder: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let version = format!("parm {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).date(DATE).source(&version).manual("parm manual");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    // A subcommand's page takes the part of its tool.
    let tool = name.splitn(3, '-').take(2).collect::<Vec<_>>().join("-");
    let part = [name.as_str(), tool.as_str()].map(|name| Path::new("man").join(format!("{name}.inc")));
    let part = part.iter().find(|part| part.exists()).ok_or_else(|| {
        io::Error::other(format!("found no man/{tool}.inc, expected the hand-written part of its page"))
    })?;
    let generated = String::from_utf8(text).map_err(io::Error::other)?;
    let page = tidy(&generated) + &fs::read_to_string(part)?;
    fs::write(folder.join(format!("{name}.1")), page)
}

/// What mandoc would complain of: breaks around blank lines, and a preamble before each section.
fn tidy(page: &str) -> String {
    let preamble = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";
    let body = page.replace(preamble, "").replace(".br\n\n.br\n", ".sp\n").replace("\n\n", "\n.sp\n");
    let lines: Vec<&str> = body.lines().map(str::trim_end).collect();
    format!("{preamble}{}\n", lines.join("\n"))
}
