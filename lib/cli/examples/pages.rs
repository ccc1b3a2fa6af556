//! Writes the man pages and shell completions of all tools, from their clap definitions and the
//! hand-written parts in man/*.inc: `pages OUTPUT_FOLDER`, run from the root of the project.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use clap::{Arg, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use parm_cli::examples::{self, Example};

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
    let part = part(&name, command.get_bin_name().unwrap_or(&name))?;
    // The page of a tool has what all of its subcommands share.
    let tool = tool(&name);
    let is_shared = |option: &Arg| name != tool && option.get_help_heading() == Some("Messages");
    let shared: Vec<&Arg> = command.get_arguments().filter(|option| is_shared(option)).collect();
    let own = command.clone().mut_args(|option| {
        let hide = is_shared(&option) || option.is_hide_set();
        option.hide(hide)
    });
    let man = Man::new(own).date(DATE).source(&version).manual("parm manual");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    writeln!(text, ".SH SYNOPSIS\n{}", synopsis(command, &part))?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    if !shared.is_empty() {
        let names: Vec<String> = shared.iter().flat_map(|option| names(option)).collect();
        let names = format!("\\fB{}\\fR", names.join("\\fR, \\fB")).replace('-', "\\-");
        let tool = tool.replace('-', "\\-");
        writeln!(text, ".SH MESSAGES\n{names}: see\n.BR {tool} (1).")?;
    }
    let generated = String::from_utf8(text).map_err(io::Error::other)?;
    let files = ".SH EXAMPLES\n.BR parm\\-examples (7)\nshows how the files come to be.\n.PP\n";
    let page = tidy(&generated) + &part.replace(".SH EXAMPLES\n", files);
    fs::write(folder.join(format!("{name}.1")), page)
}

/// The tool of a page.
fn tool(name: &str) -> String {
    name.splitn(3, '-').take(2).collect::<Vec<_>>().join("-")
}

/// The names of an option, the short one first.
fn names(option: &Arg) -> Vec<String> {
    let short = option.get_short().map(|short| format!("-{short}"));
    short.into_iter().chain(option.get_long().map(|long| format!("--{long}"))).collect()
}

/// The hand-written part of a page: a file, or for most subcommands their examples in the part of their tool, and what it
/// says of exit codes.
fn part(name: &str, call: &str) -> io::Result<String> {
    let read = |name: &str| fs::read_to_string(Path::new("man").join(format!("{name}.inc")));
    let tool = tool(name);
    if name == tool || Path::new("man").join(format!("{name}.inc")).exists() {
        return read(name).map_err(|error| {
            io::Error::other(format!("man/{name}.inc: {error}, expected the hand-written part of its page"))
        });
    }
    let whole = read(&tool)?;
    let mut part = ".SH EXAMPLES\n".to_owned();
    let examples = examples::parse(&whole).into_iter().filter(|example| !example.calls(call).is_empty());
    for (at, Example { what, commands }) in examples.enumerate() {
        let between = if at == 0 { "" } else { ".PP\n" };
        writeln!(part, "{between}{what}\n.PP\n.in +4n\n.EX\n{commands}\n.EE\n.in")
            .map_err(io::Error::other)?;
    }
    if !part.contains(".EX") {
        return Err(io::Error::other(format!("man/{tool}.inc: found no example of '{call}', expected one")));
    }
    let sections: Vec<&str> = whole.split("\n.SH ").skip(1).collect();
    let of = |title: &str| sections.iter().find(|section| section.starts_with(title)).copied();
    let titles = sections.iter().filter_map(|section| section.lines().next());
    let titles: Vec<&str> = titles.filter(|title| !["EXIT STATUS", "SEE ALSO"].contains(title)).collect();
    let tool = tool.replace('-', "\\-");
    if !titles.is_empty() {
        let titles = titles.join(", ");
        writeln!(part, ".SH MORE\n.BR {tool} (1)\nhas more on all of its subcommands:\n{titles}.")
            .map_err(io::Error::other)?;
    }
    for title in ["EXIT STATUS", "SEE ALSO"] {
        let section = of(title).ok_or_else(|| {
            io::Error::other(format!("man/{tool}.inc: found no {title}, expected a section of it"))
        })?;
        let section = section.replacen("SEE ALSO\n", &format!("SEE ALSO\n.BR {tool} (1),\n"), 1);
        writeln!(part, ".SH {}", section.trim_end()).map_err(io::Error::other)?;
    }
    Ok(part)
}

/// How it is called: what is required, what the examples have, that there are other options, and then the inputs.
fn synopsis(command: &Command, part: &str) -> String {
    let call = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let calls: Vec<String> = examples::parse(part).iter().flat_map(|example| example.calls(&call)).collect();
    let words: Vec<&str> = calls.iter().flat_map(|call| call.split([' ', '='])).collect();
    let value = |argument: &Arg| {
        let names = argument.get_value_names().unwrap_or_default();
        let names: Vec<String> = names.iter().map(|name| name.replace('-', "\\-")).collect();
        if names.is_empty() { String::new() } else { format!(" \\fI{}\\fR", names.join(" ")) }
    };
    let text = |option: &Arg| {
        let name = names(option).into_iter().next().unwrap_or_default().replace('-', "\\-");
        let value = if option.get_action().takes_values() { value(option) } else { String::new() };
        format!("\\fB{name}\\fR{value}")
    };
    let (positional, options): (Vec<&Arg>, Vec<&Arg>) =
        command.get_arguments().partition(|argument| argument.is_positional());
    let mut synopsis = vec![format!("\\fB{}\\fR", call.replace('-', "\\-"))];
    synopsis.extend(options.iter().filter(|option| option.is_required_set()).map(|option| text(option)));
    let is_used = |option: &&&Arg| names(option).iter().any(|name| words.contains(&name.as_str()));
    let used = options.iter().filter(|option| !option.is_required_set()).filter(is_used);
    synopsis.extend(used.map(|option| format!("[{}]", text(option))));
    synopsis.push("[\\fIoptions\\fR]".to_owned());
    synopsis.extend(positional.iter().map(|argument| {
        let value = value(argument);
        let several = argument.get_num_args().is_some_and(|range| range.max_values() > 1);
        let several = if several { "..." } else { "" };
        let value = format!("{}{several}", value.trim_start());
        if argument.is_required_set() { value } else { format!("[{value}]") }
    }));
    if command.has_subcommands() {
        let (open, close) = if command.is_subcommand_required_set() { ("", "") } else { ("[", "]") };
        synopsis.push(format!("{open}\\fIsubcommand\\fR{close}"));
    }
    synopsis.join(" ")
}

/// What mandoc would complain of: breaks around blank lines, and a preamble before each section.
fn tidy(page: &str) -> String {
    let preamble = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";
    let body = page.replace(preamble, "").replace(".br\n\n.br\n", ".sp\n").replace("\n\n", "\n.sp\n");
    let lines: Vec<&str> = body.lines().map(str::trim_end).collect();
    format!("{preamble}{}\n", lines.join("\n"))
}
