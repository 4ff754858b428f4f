//! culvertd, the control plane of a Culvert gateway. This is the story of its start.
#![forbid(unsafe_code)]

use std::future::Future;
use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result};
use api::cli::{Arguments, Command, Run};
use api::{Gateway, Server};
use clap::Parser;
use sd_notify::NotifyState;
use store::Store;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Openapi) => {
            println!("{}", api::router::openapi().to_pretty_json()?);
            Ok(())
        }
        Some(Command::Token(command)) => api::token::run(command, &mut std::io::stdout()).await,
        None => run(arguments.run).await,
    }
}

async fn run(arguments: Run) -> Result<()> {
    let filter = EnvFilter::try_new(&arguments.log).context("--log is no filter")?;
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    control::core_dump::forbid().context("core dumps cannot be forbidden")?;

    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let store = Store::open(&arguments.state_dir, credentials.as_deref()).await?;
    let server = Server::bind(&arguments.state_dir, arguments.listen, arguments.listen_plain).await?;
    let (control, inbox) = control::handle();
    let gateway = Gateway { store: store.clone(), control, require_if_match: arguments.require_if_match };

    let (stop, stopped) = watch::channel(false);
    let desired = {
        let store = store.clone();
        move || {
            let store = store.clone();
            async move { store.desired().await }
        }
    };
    let keeper = api::KeptIkeSas(store.clone());
    let config = control::Config::new(arguments.run_dir);
    #[cfg(feature = "key-log")]
    let config = config.with_ike_key_log(arguments.ike_key_log);
    let mut running = tokio::spawn(control::run(config, desired, keeper, inbox, asked_to_stop(stopped)));
    let stop_serving = server.stopper();
    let mut serving = tokio::spawn(server.serve(api::router::router(gateway)));
    tell_systemd(NotifyState::Ready);

    // Whatever ends first ends the rest: requests first, then the control plane, then the store.
    let (mut run_ended, mut serve_ended) = (None, None);
    tokio::select! {
        () = signalled()? => tracing::info!("asked to stop"),
        ended = &mut running => run_ended = Some(ended),
        ended = &mut serving => serve_ended = Some(ended),
    }
    tell_systemd(NotifyState::Stopping);
    stop_serving();
    let served = match serve_ended {
        Some(ended) => ended,
        None => serving.await,
    };
    stop.send_replace(true);
    let ran = match run_ended {
        Some(ended) => ended,
        None => running.await,
    };
    store.database().close().await;
    served.context("the API panicked")?.context("the API failed")?;
    ran.context("the control plane panicked")?.context("the control plane failed")
}

async fn asked_to_stop(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone: that is a stop too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn signalled() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "systemd was not told");
    }
}
