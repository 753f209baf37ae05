//! `rename`: a node is called otherwise from now on, by the wish of an admin.

use outlast_mesh::trust::issue_rename;

use super::sign::{Desk, Signer, now_ms};
use crate::cli::{Global, RenameArgs};
use crate::failure::Failure;
use crate::text::{Printer, visible};

pub(super) fn run(
    global: &Global,
    arguments: &RenameArgs,
    out: &mut Printer,
) -> Result<(), Failure> {
    let mut desk = Desk::open(global, Signer::Owner(&arguments.sign))?;
    let (id, old) = desk.member(&arguments.node)?;
    let (old, wanted) = (visible(&old).into_owned(), arguments.name.as_str());
    if old == wanted {
        return out.line(format!("{old} is called so already"));
    }
    let rename = issue_rename(&desk.admin.key, &desk.statements, id, wanted, now_ms());
    desk.sign(rename.map_err(anyhow::Error::from)?)?;
    let told = desk.publish()?;
    out.line(format!("{old} is called {wanted} from now on"))?;
    told.remark(out)
}
