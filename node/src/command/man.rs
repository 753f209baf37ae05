//! `man`: manual pages, made of the same text as `--help`.
//!
//! In: a command's name, or a directory. Out: one page on standard output, or one file a page.
//! Absent: hidden commands; compressing, which packages do.

use std::path::Path;

use anyhow::Context;
use clap_mangen::Man;

use crate::cli::{self, ManArgs};
use crate::failure::Failure;
use crate::text::{Printer, visible};

pub(super) fn run(arguments: &ManArgs, out: &mut Printer) -> Result<(), Failure> {
    let mut program = cli::shown();
    program.build();
    if let Some(dir) = &arguments.out {
        return write_all(&program, dir, out);
    }
    let (mut command, mut title) = (&program, "outlast".to_owned());
    for name in &arguments.command {
        let below = commands(command).find(|below| below.get_name() == name);
        command = below.ok_or_else(|| {
            Failure::usage(format!(
                "no command is called {}; `outlast --help` lists them",
                visible(name)
            ))
        })?;
        title = format!("{title}-{name}");
    }
    let page = page(command, &title)?;
    out.raw(&page)
}

/// Commands that a person types.
fn commands(program: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    let all = program.get_subcommands();
    all.filter(|command| command.get_name() != "help")
}

fn page(command: &clap::Command, title: &str) -> Result<String, Failure> {
    let man = Man::new(command.clone());
    // A page has no date of its own: builds of one release are equal to the byte.
    let version = env!("CARGO_PKG_VERSION");
    let heading = format!(".TH \"{title}\" \"1\" \"\" \"outlast {version}\" \"Outlast\"\n");
    let mut page = heading.into_bytes();
    man.render_name_section(&mut page)
        .and_then(|()| man.render_synopsis_section(&mut page))
        .and_then(|()| man.render_description_section(&mut page))
        .and_then(|()| man.render_options_section(&mut page))
        .and_then(|()| match command.has_subcommands() {
            true => man.render_subcommands_section(&mut page),
            false => Ok(()),
        })
        .context("write the page")?;
    let mut page = String::from_utf8_lossy(&page).into_owned();
    let after = command.get_after_help().map(ToString::to_string);
    page += &as_written(&after.unwrap_or_default());
    page += EXIT_STATUS;
    if title != "outlast" {
        page += ".SH \"SEE ALSO\"\noutlast(1)\n";
    }
    Ok(page)
}

const EXIT_STATUS: &str = "\
.SH \"EXIT STATUS\"
0 done; 1 it failed; 2 wrong usage; 3 the node isn't running.
Errors are one line on standard error that says what failed and what to do.
";

/// What follows the options in `--help`, its first line a heading, the others as they stand there.
fn as_written(after_help: &str) -> String {
    let Some((heading, lines)) = after_help.split_once(":\n") else {
        return String::new();
    };
    let mut section = format!(".SH \"{}\"\n.nf\n", heading.to_uppercase());
    for line in lines.lines().filter(|line| !line.starts_with("Exit codes")) {
        let line = line.trim_start().replace('\\', "\\e").replace('-', "\\-");
        // A dot or an apostrophe at the beginning would be a request.
        let guard = if line.starts_with(['.', '\'']) {
            "\\&"
        } else {
            ""
        };
        section += &format!("{guard}{line}\n");
    }
    section += ".fi\n";
    section
}

/// A command and those below it, each with the title of its page.
fn collect<'a>(
    title: String,
    command: &'a clap::Command,
    pages: &mut Vec<(String, &'a clap::Command)>,
) {
    for below in commands(command) {
        collect(format!("{title}-{}", below.get_name()), below, pages);
    }
    pages.push((title, command));
}

fn write_all(program: &clap::Command, dir: &Path, out: &mut Printer) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    let mut pages = Vec::new();
    collect("outlast".to_owned(), program, &mut pages);
    for (title, command) in &pages {
        let path = dir.join(format!("{title}.1"));
        std::fs::write(&path, page(command, title)?)
            .with_context(|| format!("write {}", path.display()))?;
    }
    out.line(format!("{} pages in {}", pages.len(), dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_stand_as_written_and_are_no_requests() {
        assert_eq!(
            as_written("Examples:\n  outlast a --b 'c\\d'\n.TH\n"),
            ".SH \"EXAMPLES\"\n.nf\noutlast a \\-\\-b 'c\\ed'\n\\&.TH\n.fi\n"
        );
        assert_eq!(as_written(""), "");
    }

    #[test]
    fn every_command_that_is_shown_has_a_page_with_examples() {
        let mut program = cli::shown();
        program.build();
        for command in commands(&program) {
            let page = page(command, "outlast-x").unwrap();
            assert!(
                page.contains("\n.SH \"EXAMPLES\"\n"),
                "{}",
                command.get_name()
            );
        }
        let names: Vec<_> = commands(&program).map(clap::Command::get_name).collect();
        assert!(
            !names.contains(&"store-check") && !names.contains(&"help"),
            "{names:?}"
        );
    }
}
