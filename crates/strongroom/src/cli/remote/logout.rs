//! `strongroom logout`: makes the token that `login` kept worthless, and forgets it.

use anyhow::Result;
use secrecy::ExposeSecret;
use serde_json::json;

use super::Place;
use crate::client::{self, Client, Kept};
use crate::exit::Exit;
use crate::{terminal, tls, words};

/// Arguments of `strongroom logout`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    pub place: Place,
}

/// Logs out. Somebody who is not logged in stays so.
pub fn run(arguments: Arguments) -> Result<Exit> {
    tls::install_provider();
    let place = &arguments.place;
    let (server, kept) = match place.server()? {
        // A file that others could have read is no longer used, but forgotten all the same.
        Some(server) => (server.clone(), client::kept_for(&server).ok().flatten()),
        None => {
            let kept = place.kept()?;
            (kept.server.clone(), Some(kept))
        }
    };
    if let Some(kept) = kept
        && let Err(error) = revoke(place, &kept)
        && !place.json
    {
        let until = words::moment(kept.expires);
        terminal::warn(format!("the server was not told, and takes the token until {until}: {error}"));
    }
    let was_kept = client::forget(&server)?;
    place.tell(&json!({"server": server.base(), "forgotten": was_kept}), || {
        if was_kept { format!("logged out of {server}") } else { format!("not logged in to {server}") }
    })
}

fn revoke(place: &Place, kept: &Kept) -> Result<()> {
    let client = Client::new(kept.server.clone(), &place.trust(kept))?;
    client.post("sharing/rest/oauth2/revokeToken", &[("auth_token", kept.token.expose_secret())])?;
    Ok(())
}
