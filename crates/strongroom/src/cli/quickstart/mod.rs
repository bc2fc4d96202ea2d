//! `strongroom quickstart`: a backup, a disaster and a recovery in a minute, with the real server over its real interface.
//!
//! ```text
//! setup     configuration, password, passcode and sample content in DIR, or what is there of them
//! manifest  what every file is now: hash, mode, time, links
//! server    in this process; from here on everything goes over HTTPS, by `crate::client`
//! story     log in → register the store → back up → `damage` → restore → compare with the manifest
//! show      what the person at the terminal sees of it
//! ```

mod damage;
mod manifest;
mod sample;
mod setup;
mod show;
mod story;
mod summary;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use repository::Control;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::exit::{Exit, Failure};
use crate::{interrupt, logging, server, tls};
use setup::Prepared;
use show::Show;

const DEFAULT_PORT: u16 = 7443;
/// So many ports after the default one are tried.
const PORTS_TRIED: u16 = 20;

/// Arguments of `strongroom quickstart`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Where everything goes; run again on it, it goes on with what is there
    #[arg(long, value_name = "DIR", default_value = "strongroom-quickstart")]
    directory: PathBuf,
    /// The port to serve on [default: 7443, or the next free one]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Back up this directory instead of sample content, and restore it beside; it is never changed
    #[arg(long, value_name = "DIR")]
    protect: Option<PathBuf>,
    /// Stop at the end instead of serving on
    #[arg(long)]
    once: bool,
}

/// Tells the whole story.
pub fn run(arguments: Arguments) -> Result<Exit> {
    tls::install_provider();
    let show = Show::new();
    let control = Control::new();
    interrupt::cancels(&control)?;
    setup::make_private_directory(&arguments.directory)?;
    let directory = arguments.directory.canonicalize()?;
    show.title(&directory, arguments.protect.is_some())?;

    let prepared = setup::prepare(&directory, arguments.protect.as_deref(), arguments.port, &show, &control)?;
    logging::to_file(&directory.join("server.log"))?;
    let listen = free_address(prepared.config.listen, arguments.port, &show)?;
    let running = Running::start(&prepared, listen, &show)?;
    let told = story::tell(&prepared, &running.url, &show, &control);
    let exit = match told {
        Ok(exit) => exit,
        Err(error) => {
            // What went wrong is more telling than a failure to stop after it.
            let _ = running.stop();
            return Err(error);
        }
    };
    if !arguments.once && exit == Exit::Done {
        show.serving(&running.url)?;
        while !control.cancelled.load(Ordering::Relaxed) && !running.has_ended() {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    running.stop()?;
    Ok(exit)
}

/// The server in this process.
struct Running {
    url: String,
    runtime: Runtime,
    stop: tokio::sync::oneshot::Sender<()>,
    served: JoinHandle<Result<()>>,
}

impl Running {
    fn start(prepared: &Prepared, listen: SocketAddr, show: &Show) -> Result<Self> {
        let runtime = server::runtime()?;
        let opened = runtime.block_on(server::open(&prepared.config, listen))?;
        runtime.block_on(setup::administrator(&opened.recovery, prepared, show))?;
        let url = opened.url.clone();
        show.done("server", &format!("{url}/admin"))?;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let served = runtime.spawn(opened.serve(async move {
            // Also when the other end is dropped.
            let _ = stopped.await;
        }));
        Ok(Self { url, runtime, stop, served })
    }

    fn has_ended(&self) -> bool {
        self.served.is_finished()
    }

    fn stop(self) -> Result<()> {
        let _ = self.stop.send(());
        self.runtime.block_on(self.served).context("the server was torn down")?
    }
}

/// The address to listen on. A port that was asked for is taken or refused; else the next free one will do.
fn free_address(configured: SocketAddr, asked: Option<u16>, show: &Show) -> Result<SocketAddr> {
    let first = SocketAddr::new(configured.ip(), asked.unwrap_or(configured.port()));
    let tried = if asked.is_some() { 1 } else { PORTS_TRIED };
    let mut refused = None;
    for port in (first.port()..=u16::MAX).take(tried.into()) {
        let address = SocketAddr::new(first.ip(), port);
        match TcpListener::bind(address) {
            Ok(_) => {
                if port != first.port() {
                    show.attention(&format!("port {} is taken, so this run uses {port}", first.port()))?;
                }
                return Ok(address);
            }
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => refused = Some(e),
            Err(e) => return Err(e).with_context(|| format!("cannot listen on {address}")),
        }
    }
    let reason = refused.map(|e| e.to_string()).unwrap_or_default();
    let hint = match asked {
        Some(port) => {
            format!("stop what listens there, or use --port {}", port.checked_add(1).unwrap_or(8443))
        }
        None => "name a free port with --port".to_owned(),
    };
    Err(Failure::usage(format!("port {} cannot be used: {reason}", first.port())).hint(hint).into())
}

/// Stops the story when Ctrl-C was pressed.
fn go_on(control: &Arc<Control>) -> Result<()> {
    Ok(control.check()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_that_was_asked_for_is_refused_and_another_one_is_found_otherwise() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let show = Show::new();
        let refused = free_address(address, Some(address.port()), &show).unwrap_err();
        assert_eq!(crate::exit::classify(&refused), Exit::Usage);
        let found = free_address(address, None, &show).unwrap();
        assert_ne!(found.port(), address.port());
    }
}
