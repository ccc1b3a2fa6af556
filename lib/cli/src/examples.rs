//! The examples of tools: those of the hand-written parts of their man pages, for `--help` and for the pages of
//! subcommands.

use std::fmt::Write as _;

use clap::Command;

/// Examples that `--help` ends with.
const SHOWN: usize = 2;

/// An example of a page, with the page's markup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example<'a> {
    /// What it does.
    pub what: &'a str,
    /// Its commands.
    pub commands: &'a str,
}

impl Example<'_> {
    /// Its calls of a tool, as `parm-data cast`, each up to the next pipe or the end of its line.
    #[must_use]
    pub fn calls(&self, tool: &str) -> Vec<String> {
        let text = plain(self.commands).replace("\\\n", " ");
        let parts = text.split(['\n', '|', ';', '&']);
        let calls = parts.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
        let is_call = |part: &String| {
            let call = part.find(tool).map(|at| &part[at + tool.len()..]);
            call.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        calls.filter(is_call).collect()
    }
}

/// The examples in the section of this name of the hand-written part of a page.
#[must_use]
pub fn parse(part: &str) -> Vec<Example<'_>> {
    let section = part.split_once(".SH EXAMPLES\n").map_or("", |(_, rest)| rest);
    let section = section.split("\n.SH ").next().unwrap_or_default();
    let texts = section.split("\n.EE\n.in").filter_map(|text| text.split_once("\n.PP\n.in +4n\n.EX\n"));
    texts.map(|(what, commands)| Example { what: what.trim_start_matches("\n.PP\n"), commands }).collect()
}

/// A tool whose help, and whose subcommands' help, ends with examples of these parts of pages.
#[must_use]
pub fn shown(command: Command, parts: &[&str]) -> Command {
    let examples: Vec<Example<'_>> = parts.iter().flat_map(|part| parse(part)).collect();
    let tool = command.get_name().to_owned();
    let help = help(&command, examples.iter().filter(|example| !example.calls(&tool).is_empty()));
    command.after_long_help(help).mut_subcommands(|subcommand| {
        let call = format!("{tool} {}", subcommand.get_name());
        let help =
            self::help(&subcommand, examples.iter().filter(|example| !example.calls(&call).is_empty()));
        subcommand.after_long_help(help)
    })
}

/// The end of a help.
fn help<'a>(command: &Command, examples: impl Iterator<Item = &'a Example<'a>>) -> String {
    let header = command.get_styles().get_header();
    let mut help = format!("{header}Examples:{header:#}");
    for Example { what, commands } in examples.take(SHOWN) {
        // Writing to a string cannot fail.
        let _ = write!(help, "\n  {}", plain(what).replace('\n', " "));
        for line in plain(commands).lines() {
            let _ = write!(help, "\n    {line}");
        }
    }
    help
}

/// A text without its markup.
fn plain(text: &str) -> String {
    let line = |line: &str| match line.split_once(' ') {
        Some((".I" | ".B", words)) => words.to_owned(),
        Some((".BR" | ".IR" | ".RB" | ".RI", words)) => {
            words.split(' ').map(|word| word.trim_matches('"')).collect()
        }
        _ => line.to_owned(),
    };
    let text = text.lines().map(line).collect::<Vec<_>>().join("\n");
    let marks = [
        ("\\-", "-"),
        ("\\(aq", "'"),
        ("\\(dq", "\""),
        ("\\fB", ""),
        ("\\fI", ""),
        ("\\fR", ""),
        ("\\e", "\\"),
        ("\\^", ""),
        ("\\&", ""),
    ];
    marks.iter().fold(text, |text, (mark, plain)| text.replace(mark, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: &str = ".SH EXAMPLES\nMake\n.IR a.npy ,\nand more:\n.PP\n.in +4n\n.EX\n\
        parm\\-tool one \\-\\-x \\(aqy\\(aq \\e\n  \\-o a.npy | parm\\-other \\-k 2\n.EE\n.in\n.PP\nAgain:\n.PP\n.in +4n\n\
        .EX\nparm\\-tool two\n.EE\n.in\n.SH OTHER\nText:\n.PP\n.in +4n\n.EX\nno example\n.EE\n.in\n";

    #[test]
    fn examples_are_those_of_their_section() {
        let examples = parse(PART);
        assert_eq!(examples.len(), 2);
        assert_eq!(plain(examples[0].what).replace('\n', " "), "Make a.npy, and more:");
        assert_eq!(examples[0].calls("parm-tool one"), ["parm-tool one --x 'y' -o a.npy"]);
        assert_eq!(examples[0].calls("parm-other"), ["parm-other -k 2"]);
        assert_eq!(
            (examples[0].calls("parm-tool on").len(), examples[1].calls("parm-tool two").len()),
            (0, 1)
        );
    }

    #[test]
    fn help_ends_with_examples_of_its_own() {
        let tool = Command::new("parm-tool").subcommand(Command::new("one")).subcommand(Command::new("two"));
        let mut tool = shown(tool, &[PART]);
        let help = tool.render_long_help().to_string();
        let expected = "Examples:\n  Make a.npy, and more:\n    parm-tool one --x 'y' \\\n      -o a.npy | \
                        parm-other -k 2\n  Again:\n    parm-tool two\n";
        assert!(help.ends_with(expected), "{help}");
        let two = tool.find_subcommand_mut("two").unwrap().render_long_help().to_string();
        assert!(two.ends_with("Examples:\n  Again:\n    parm-tool two\n"), "{two}");
    }
}
