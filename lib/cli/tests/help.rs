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
