//! `join`: becomes a member by a token, through the waiting node or on the state directory itself.

use std::io::{IsTerminal, Read};
use std::path::Path;

use anyhow::Context;
use outlast_mesh::trust::Token;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Doer, doer, service};
use crate::cli::{Global, JoinArgs};
use crate::config::Config;
use crate::control::Request;
use crate::failure::Failure;
use crate::membership::{self, Joined};
use crate::state::StateDir;
use crate::text::{Printer, aside, visible};

/// Far more than the longest token; a larger file is something else.
const LONGEST_TOKEN: u64 = 64 * 1024;

pub(super) fn run(global: &Global, arguments: &JoinArgs, out: &mut Printer) -> Result<(), Failure> {
    let config = Config::load(global.config.as_deref())?.with_reach(&arguments.reach);
    if arguments.service {
        service::check_flag("join", global, &arguments.reach)?;
    }
    let state = StateDir::resolve(global)?;
    let text = token_text(arguments)?;
    // Read here as well, so that a wrong one is told before anything is touched.
    let token = Token::parse(text.trim()).map_err(anyhow::Error::from)?;
    let pinned = || token.invite().name.clone();
    let name = arguments.name.clone().or_else(pinned);
    let name = name.unwrap_or_else(membership::host_name);
    let (joined, runs) = match doer(&state)? {
        Doer::Node(mut client) => {
            let request = Request::Join {
                token: text.trim().to_owned(),
                name,
            };
            let mut waits = Waits::default();
            let joined = client.stream(&request, |part| {
                waits.say(part["waits"].as_str().unwrap_or_default());
                Ok(())
            })?;
            (read_answer(&joined), true)
        }
        Doer::Ourselves(_lock) => (join_here(&state, &config, &token, &name)?, false),
    };
    let members: Vec<_> = joined
        .members
        .iter()
        .map(|member| visible(member))
        .collect();
    out.line(format!(
        "{} mesh {} as {}; members: {}",
        if joined.before {
            "nothing to do, this node is in"
        } else {
            "joined"
        },
        visible(&joined.mesh_name),
        visible(&joined.name),
        members.join(", ")
    ))?;
    if let Some(old) = joined.replaces.as_deref().filter(|_| !joined.before) {
        let old = visible(old);
        aside(format!(
            "this node takes the place of {old}: its history comes from whoever keeps it, the newest first"
        ));
    }
    if arguments.service {
        out.flush()?;
        service::install_after("join")?;
    } else if !runs {
        aside("this node isn't running yet: start it with `outlast up`");
    }
    Ok(())
}

fn join_here(
    state: &StateDir,
    config: &Config,
    token: &Token,
    name: &str,
) -> Result<Joined, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let mut waits = Waits::default();
    let mut say = |sentence: &str| waits.say(sentence);
    runtime.block_on(membership::join(state, config, token, name, &mut say))
}

/// Says once what a joiner waits for, however often it is told.
#[derive(Default)]
struct Waits {
    said: String,
}

impl Waits {
    fn say(&mut self, sentence: &str) {
        if self.said != sentence {
            aside(visible(sentence));
            sentence.clone_into(&mut self.said);
        }
    }
}

fn read_answer(answer: &Value) -> Joined {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Joined {
        mesh_name: text(&answer["mesh"]),
        name: text(&answer["name"]),
        members: answer["members"]
            .as_array()
            .into_iter()
            .flatten()
            .map(text)
            .collect(),
        replaces: answer["replaces"].as_str().map(str::to_owned),
        before: answer["before"].as_bool() == Some(true),
    }
}

fn token_text(arguments: &JoinArgs) -> Result<Zeroizing<String>, Failure> {
    if let Some(token) = &arguments.token {
        aside(
            "the token in the arguments can be seen by other users of this machine (`ps`); stdin or --token-file hides it",
        );
        return Ok(Zeroizing::new(token.clone()));
    }
    match &arguments.token_file {
        Some(path) => token_of_file(path),
        None => token_of_stdin(),
    }
}

fn token_of_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let file = std::fs::File::open(path);
    let file = file.with_context(|| format!("open the token file {}", path.display()))?;
    read_token(file, &format!("the token file {}", path.display()))
}

fn token_of_stdin() -> Result<Zeroizing<String>, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        aside("paste the token and press Enter:");
        let mut line = Zeroizing::new(String::new());
        stdin
            .read_line(&mut line)
            .context("read the token from the terminal")?;
        return required(line, "the terminal");
    }
    read_token(stdin, "standard input")
}

fn read_token(source: impl Read, name: &str) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    source
        .take(LONGEST_TOKEN)
        .read_to_string(&mut text)
        .with_context(|| format!("read the token from {name}"))?;
    required(text, name)
}

fn required(text: Zeroizing<String>, name: &str) -> Result<Zeroizing<String>, Failure> {
    if text.trim().is_empty() {
        return Err(Failure::usage(format!(
            "no token on {name}; make one with `outlast invite` on a member, then: outlast join < token"
        )));
    }
    Ok(text)
}
