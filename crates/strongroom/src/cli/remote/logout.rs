//! `strongroom logout`: forgets the token that `login` kept. The server forgets it when its time is over.

use anyhow::Result;
use serde_json::json;

use super::Place;
use crate::client;
use crate::exit::Exit;

/// Arguments of `strongroom logout`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    pub place: Place,
}

/// Logs out. Somebody who is not logged in stays so.
pub fn run(arguments: Arguments) -> Result<Exit> {
    let place = &arguments.place;
    let server = match place.server()? {
        Some(server) => server,
        None => place.kept()?.server,
    };
    let was_kept = client::forget(&server)?;
    place.tell(&json!({"server": server.base(), "forgotten": was_kept}), || {
        if was_kept { format!("logged out of {server}") } else { format!("not logged in to {server}") }
    })
}
