//! The roles of a backup, and settings of roles and databases.

use std::collections::HashSet;

use postgres::Client;
use repository::Control;

use super::inventory;
use super::manifest::{Manifest, ROLE_OPTIONS};
use super::{failure, quote};
use crate::Result;

/// Makes the roles that are missing, with their memberships. Those that are there stay as they are.
pub(super) fn make_roles(
    client: &mut Client,
    major: u32,
    manifest: &Manifest,
    control: &Control,
) -> Result<()> {
    let present: HashSet<String> =
        inventory::names(client, "SELECT rolname::text FROM pg_roles", "list the roles")?
            .into_iter()
            .collect();
    let (mut statements, mut settings) = (Vec::new(), Vec::new());
    for role in manifest.roles.iter().filter(|role| !present.contains(&role.name)) {
        let name = quote::ident(&role.name);
        let options =
            ROLE_OPTIONS.into_iter().filter(|option| role.options.iter().any(|given| given == option));
        let mut text = format!("CREATE ROLE {name} {}", options.collect::<Vec<_>>().join(" "));
        if role.connection_limit >= 0 {
            text.push_str(&format!(" CONNECTION LIMIT {}", role.connection_limit));
        }
        if let Some(password) = &role.password {
            text.push_str(&format!(" PASSWORD {}", quote::literal(password)));
        }
        if let Some(until) = &role.valid_until {
            text.push_str(&format!(" VALID UNTIL {}", quote::literal(until)));
        }
        statements.push(text);
        settings.extend(
            role.settings.iter().map(|text| (role.name.clone(), format!("ALTER ROLE {name}"), text.clone())),
        );
    }
    for membership in
        manifest.memberships.iter().filter(|m| !present.contains(&m.role) || !present.contains(&m.member))
    {
        let word = |yes: bool| if yes { "TRUE" } else { "FALSE" };
        let admin = match (membership.inherit, membership.set) {
            (Some(inherit), Some(set)) if major >= 16 => {
                format!(
                    " WITH ADMIN {}, INHERIT {}, SET {}",
                    word(membership.admin),
                    word(inherit),
                    word(set)
                )
            }
            _ if membership.admin => " WITH ADMIN OPTION".to_owned(),
            _ => String::new(),
        };
        statements.push(format!(
            "GRANT {} TO {}{admin}",
            quote::ident(&membership.role),
            quote::ident(&membership.member)
        ));
    }
    if statements.is_empty() {
        return Ok(());
    }
    let text = format!("BEGIN; {}; COMMIT", statements.join("; "));
    client.batch_execute(&text).map_err(|e| failure::server("cannot make the roles of the backup", &e))?;
    for (role, alter, text) in &settings {
        set(client, role, alter, text, control);
    }
    Ok(())
}

/// Makes one setting. Another release may not know it any more, which is told and is no reason to give up a restore.
pub(super) fn set(client: &mut Client, of: &str, alter: &str, text: &str, control: &Control) {
    let Some(setting) = quote::setting(text) else { return };
    if let Err(e) = client.batch_execute(&format!("{alter} {setting}")) {
        let name = text.split('=').next().unwrap_or_default();
        control.warn(of.to_owned(), failure::server(format!("the setting '{name}' was refused"), &e).message);
    }
}
