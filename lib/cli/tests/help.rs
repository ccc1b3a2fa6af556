//! The definitions of all tools: consistent, and with help for everything.

use clap::{Arg, ArgAction, Command};

fn walk(command: &Command, visit: &mut impl FnMut(&Command, &Arg)) {
    for argument in command.get_arguments() {
        visit(command, argument);
    }
    for subcommand in command.get_subcommands() {
        walk(subcommand, visit);
    }
}

#[test]
fn clap_finds_no_fault() {
    for tool in parm_cli::tools::all() {
        tool.debug_assert();
    }
}

#[test]
fn every_option_has_help_and_a_value_name() {
    for mut tool in parm_cli::tools::all() {
        tool.build();
        walk(&tool, &mut |command, argument| {
            let place = format!("{} {}", command.get_name(), argument.get_id());
            assert!(argument.get_help().is_some(), "{place}: no help");
            let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
            if takes_value && command.get_name() != "help" {
                assert!(argument.get_value_names().is_some(), "{place}: no value name");
            }
        });
    }
}

#[test]
fn every_help_ends_with_examples_of_its_own() {
    let check = |command: &Command, call: &str, least: usize| {
        // Without breaks of lines.
        let help = command.clone().term_width(0).render_long_help().to_string();
        let (_, examples) = help.split_once("\nExamples:\n").unwrap_or_else(|| panic!("{call}: no examples"));
        let titles = examples.lines().filter(|line| line.ends_with(':') && !line.starts_with("   ")).count();
        assert!((least..=2).contains(&titles) && examples.contains(call), "{call}: {examples}");
        // A line that is broken cannot be copied.
        let long = examples.lines().find(|line| line.starts_with("    ") && line.chars().count() > 100);
        assert_eq!(long, None, "{call}");
    };
    for mut tool in parm_cli::tools::all() {
        tool.build();
        let name = tool.get_name().to_owned();
        check(&tool, &name, 2);
        for subcommand in tool.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
            check(subcommand, &format!("{name} {}", subcommand.get_name()), 1);
        }
    }
}

#[test]
fn the_same_thing_is_spelled_the_same_way() {
    // The short form of each long option, where both tools have it.
    let spellings =
        [("model", Some('m')), ("output", Some('o')), ("quiet", Some('q')), ("verbose", Some('v'))];
    for mut tool in parm_cli::tools::all() {
        tool.build();
        walk(&tool, &mut |command, argument| {
            for (long, short) in spellings {
                if argument.get_long() == Some(long) {
                    assert_eq!(argument.get_short(), short, "{}: --{long}", command.get_name());
                }
            }
        });
    }
}

#[test]
fn every_option_stands_in_its_man_page() {
    let man = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../man");
    for mut tool in parm_cli::tools::all() {
        tool.build();
        walk(&tool.clone(), &mut |command, argument| {
            let name = command.get_display_name().unwrap_or(command.get_name());
            if name.ends_with("help") || name.contains("-help-") {
                return;
            }
            let page = std::fs::read_to_string(man.join(format!("{name}.1"))).expect("each tool has a page");
            if let Some(long) = argument.get_long() {
                let option = format!("\\-\\-{}", long.replace('-', "\\-"));
                assert!(page.contains(&option), "{name}.1 lacks --{long}");
            }
        });
    }
}

/// The pages that a text cites, as `parm-load(1)` or `.BR parm-load (1)`: their files.
fn cited(page: &str) -> Vec<String> {
    let plain = page.replace("\\-", "-");
    let plain = ["\\fB", "\\fI", "\\fR", "\\fP"].iter().fold(plain, |text, font| text.replace(font, ""));
    let is_name = |c: char| c.is_ascii_alphanumeric() || ['-', '.'].contains(&c);
    let before = |at: usize| {
        let text = plain[..at].trim_end_matches(' ');
        let start = text.rfind(|c: char| !is_name(c)).map_or(0, |at| at + 1);
        text[start..].to_owned()
    };
    let sections = plain.match_indices('(').filter_map(|(at, _)| {
        let (section, _) = plain[at + 1..].split_once(')')?;
        let is_section = section.len() == 1 && section.bytes().all(|byte| byte.is_ascii_digit());
        is_section.then(|| (before(at), section.to_owned()))
    });
    let ours = sections.filter(|(name, _)| name.starts_with("parm"));
    ours.map(|(name, section)| format!("{name}.{section}")).collect()
}

#[test]
fn every_page_that_is_cited_is_there() {
    assert_eq!(cited(".BR parm\\-load (1),\n\\fBparm\\fR(7) (2) f(3)"), ["parm-load.1", "parm.7"]);
    let man = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../man");
    let mut all = 0;
    for entry in std::fs::read_dir(&man).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_file() {
            continue;
        }
        for page in cited(&std::fs::read_to_string(&path).unwrap()) {
            assert!(man.join(&page).exists(), "{} cites {page}", path.display());
            all += 1;
        }
    }
    assert!(all > 200, "{all} citations found");
}

#[test]
fn pages_changes_and_manifests_have_the_version_of_the_programs() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let version = env!("CARGO_PKG_VERSION");
    let read = |name: &std::path::Path| std::fs::read_to_string(root.join(name)).unwrap();
    let mut pages = 0;
    for entry in std::fs::read_dir(root.join("man")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| ["1", "5", "7"].iter().any(|section| extension == *section))
        {
            let title = format!("\"parm {version}\"");
            assert!(read(&path).contains(&title), "{}", path.display());
            pages += 1;
        }
    }
    assert!(pages > 30, "{pages}");
    let release = format!("\n## {version} (");
    assert!(read("man/CHANGES.md".as_ref()).contains(&release));
    let tag = format!("newTag: \"{version}\"\n");
    assert!(read("testdata/serving/kubernetes/kustomization.yaml".as_ref()).contains(&tag));
}
