//! `init`: founds a mesh, on the state directory itself or through the node that waits on it.
//!
//! Invariant: the admin key is on disk before the mesh it administers exists.

use std::path::{Path, PathBuf};
use std::time::Duration;

use outlast_mesh::trust::{InviteTerms, Statement, found};
use outlast_mesh::{AdminKey, NodeId};

use super::invite::{self, Invited};
use super::mesh::public_of;
use super::sign::Owner;
use super::{Doer, doer, service};
use crate::cli::{Global, InitArgs};
use crate::config::Config;
use crate::control::Request;
use crate::control::client::Client;
use crate::failure::Failure;
use crate::membership::passphrase::{self, Passphrase};
use crate::membership::{self, Keys, Membership, addresses, admin, recovery};
use crate::state::{self, StateDir};
use crate::terminal::Terminal;
use crate::text::{Printer, aside, visible};
use crate::when;

/// How long the token of `--invite` admits machines.
const INVITE_LASTS: Duration = Duration::from_secs(3600);

pub(super) fn run(global: &Global, arguments: &InitArgs, out: &mut Printer) -> Result<(), Failure> {
    let config = Config::load(global.config.as_deref())?.with_reach(&arguments.reach);
    if arguments.service {
        service::check_flag("init", global, &arguments.reach)?;
    }
    let state = StateDir::resolve(global)?;
    let home = state::config_home()?;
    admin::prepare(&home)?;
    let new = &arguments.new;
    let passphrase =
        passphrase::wanted(new.passphrase, new.passphrase_file.as_deref(), "admin key")?;
    let owner = Owner::at(home.clone(), passphrase);
    let name = arguments.name.clone().unwrap_or_else(membership::host_name);
    let wanted = Wanted {
        name: &name,
        mesh: &arguments.mesh,
        home: &home,
        passphrase: owner.passphrase(),
    };
    let terms = arguments.invite.map(terms);
    let (invited, runs) = match doer(&state)? {
        Doer::Node(mut client) => {
            let identity = client.call(&Request::Identity)?;
            if identity["running"].as_bool() == Some(true) {
                // The node itself says which mesh it is in.
                client.call(&Request::Init {
                    statements: Vec::new(),
                })?;
            }
            let founder = public_of(&identity)?;
            let recovery = words_or_how(arguments.recovery_out.as_deref())?;
            let founding = Founding::new(&wanted, founder, recovery)?;
            founding.submit(&mut client)?;
            founding.tell();
            (
                terms
                    .map(|terms| invite::through_node(&mut client, &owner, terms.into()))
                    .transpose()?,
                true,
            )
        }
        Doer::Ourselves(_lock) => {
            refuse_second_mesh(&state)?;
            if terms.is_some() && addresses::own(&config).is_empty() {
                return Err(Failure::usage(
                    "--invite needs a port to name, and port 0 is chosen when the node starts: run `outlast up` first, or give --listen a port",
                ));
            }
            let recovery = words_or_how(arguments.recovery_out.as_deref())?;
            on_disk(&state, &wanted, recovery)?;
            let invited = terms
                .map(|terms| invite::on_disk(&state, &config, &owner, terms.into()))
                .transpose()?;
            (invited, false)
        }
    };
    report(&wanted, invited.as_ref(), runs || arguments.service, out)?;
    if arguments.service {
        // Last, so that a token is out whatever becomes of the service.
        service::install_after("init")?;
    }
    Ok(())
}

struct Wanted<'a> {
    name: &'a str,
    mesh: &'a str,
    home: &'a Path,
    /// Of the admin key.
    passphrase: Option<&'a Passphrase>,
}

fn terms(uses: u16) -> InviteTerms {
    InviteTerms {
        name: None,
        lasts: INVITE_LASTS,
        uses,
        needs_approval: false,
    }
}

fn refuse_second_mesh(state: &StateDir) -> Result<(), Failure> {
    let Some(membership) = Membership::load(state)? else {
        return Ok(());
    };
    Err(Failure::new(format!(
        "{} belongs to mesh {} already; name an empty directory with --state-dir to found another",
        state.path().display(),
        visible(&membership.statements.state().name)
    )))
}

/// As `recovery_words`; where there are none, says how to get some.
fn words_or_how(file: Option<&Path>) -> Result<Option<[u8; 32]>, Failure> {
    let words = recovery_words(file)?;
    if words.is_none() {
        aside(
            "no recovery words were made, for nobody is at a terminal to write them down: run `outlast recover --setup` on \
             one now; another time give `outlast init` --recovery-out FILE",
        );
    }
    Ok(words)
}

/// The public half of new recovery words; `None` where there is neither a file nor anybody to read them.
pub(super) fn recovery_words(file: Option<&Path>) -> Result<Option<[u8; 32]>, Failure> {
    if let Some(path) = file {
        let words = recovery::Words::generate();
        words.write(path)?;
        aside(format!(
            "recovery words written to {}; move them off this machine",
            path.display()
        ));
        return Ok(Some(words.public()));
    }
    let Some(terminal) = Terminal::of_reader() else {
        return Ok(None);
    };
    let words = recovery::Words::generate();
    words.show(&terminal)?;
    Ok(Some(words.public()))
}

fn on_disk(
    state: &StateDir,
    wanted: &Wanted<'_>,
    recovery: Option<[u8; 32]>,
) -> Result<(), Failure> {
    let keys = Keys::load_or_make(state)?;
    let founded = Founding::new(wanted, keys.identity.node.id(), recovery).and_then(|founding| {
        founding.establish(state)?;
        Ok(founding)
    });
    match founded {
        Ok(founding) => {
            founding.tell();
            Ok(())
        }
        Err(error) => {
            keys.forget();
            Err(error)
        }
    }
}

/// Founds the mesh of a node that waits for it; `demo` does so too.
pub(super) fn found_through(
    client: &mut Client,
    home: &Path,
    name: &str,
    mesh: &str,
) -> Result<(), Failure> {
    let founder = public_of(&client.call(&Request::Identity)?)?;
    let wanted = Wanted {
        name,
        mesh,
        home,
        passphrase: None,
    };
    Founding::new(&wanted, founder, None)?.submit(client)
}

/// A mesh that is about to be, its admin key kept already.
struct Founding {
    admin_key: PathBuf,
    genesis: Statement,
}

impl Founding {
    fn new(
        wanted: &Wanted<'_>,
        founder: NodeId,
        recovery: Option<[u8; 32]>,
    ) -> Result<Self, Failure> {
        let key = AdminKey::generate();
        let now_ms = u64::try_from(when::now_ms()).unwrap_or_default();
        let (mesh, genesis) = found(&key, founder, wanted.name, wanted.mesh, recovery, now_ms);
        Ok(Self {
            admin_key: admin::store(wanted.home, &mesh, &key, wanted.passphrase)?,
            genesis,
        })
    }

    /// Writes the mesh to the directory of its first node; its key goes when that fails.
    fn establish(&self, state: &StateDir) -> Result<(), Failure> {
        membership::establish(state, std::slice::from_ref(&self.genesis)).map_err(|error| {
            let _ = std::fs::remove_file(&self.admin_key);
            error.into()
        })
    }

    /// Hands the mesh to its first node. The key stays whatever happens: the node may have taken the mesh
    /// and failed at something later, and a key too many does no harm.
    fn submit(&self, client: &mut Client) -> Result<(), Failure> {
        let statements = vec![membership::to_text(&self.genesis)];
        client.call(&Request::Init { statements }).map(drop)
    }

    fn tell(&self) {
        aside(format!(
            "admin key: {} (it alone can invite and evict; keep a copy elsewhere)",
            self.admin_key.display()
        ));
    }
}

fn report(
    wanted: &Wanted<'_>,
    invited: Option<&Invited>,
    runs: bool,
    out: &mut Printer,
) -> Result<(), Failure> {
    let founded = format!("founded mesh {}, this node is {}", wanted.mesh, wanted.name);
    let start = "this node isn't running yet: start it with `outlast up`";
    match invited {
        Some(invited) => {
            // Standard output is the token's.
            aside(founded);
            if !runs {
                aside(start);
            }
            invite::show(invited, false, out)
        }
        None => {
            out.line(founded)?;
            out.flush()?;
            aside(if runs {
                "invite another machine with `outlast invite`"
            } else {
                start
            });
            Ok(())
        }
    }
}
