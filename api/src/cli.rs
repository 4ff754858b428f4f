//! The command line of culvertd.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use store::Role;

/// Control plane of a Culvert gateway: REST API, IKE, compiled tables.
#[derive(Debug, Parser)]
#[command(name = "culvertd", version, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// What to do instead of running.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to run.
    #[command(flatten)]
    pub run: Run,
}

/// How to run.
#[derive(Args, Debug)]
pub struct Run {
    /// Shared memory and the dataplane's socket; must be in a tmpfs
    #[arg(long, default_value = "/run/culvert", value_name = "DIR")]
    pub run_dir: PathBuf,
    /// Database, master key and TLS certificate
    #[arg(long, default_value = STATE_DIR, value_name = "DIR")]
    pub state_dir: PathBuf,
    /// Address of the API, HTTPS; sockets passed by systemd go before it
    #[arg(long, default_value = "127.0.0.1:8443", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Serve HTTP too, on a loopback address
    #[arg(long, value_name = "ADDR")]
    pub listen_plain: Option<SocketAddr>,
    /// Refuse changes without If-Match or If-None-Match
    #[arg(long)]
    pub require_if_match: bool,
    /// What to log, like `info,control=debug`
    #[arg(long, default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// Append the keys of IKE SAs to this file: whoever has it reads what they protect
    #[cfg(feature = "key-log")]
    #[arg(long, value_name = "FILE")]
    pub ike_key_log: Option<PathBuf>,
}

/// What else culvertd does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make, list and revoke the API's tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Print the OpenAPI document
    Openapi,
}

/// Tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, once
    Create {
        /// For whom or what it is
        #[arg(long)]
        name: String,
        /// viewer, operator or admin
        #[arg(long, default_value = "admin")]
        role: Role,
        /// Where the database is
        #[arg(long, default_value = STATE_DIR, value_name = "DIR")]
        state_dir: PathBuf,
    },
    /// List all tokens, without their secrets
    List {
        /// Where the database is
        #[arg(long, default_value = STATE_DIR, value_name = "DIR")]
        state_dir: PathBuf,
    },
    /// Revoke a token, at once and for good
    Revoke {
        /// Its id, as `list` shows it
        id: String,
        /// Where the database is
        #[arg(long, default_value = STATE_DIR, value_name = "DIR")]
        state_dir: PathBuf,
    },
}

const STATE_DIR: &str = "/var/lib/culvert";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_token_is_made_with_few_words() {
        let line = ["culvertd", "token", "create", "--name", "me", "--state-dir", "/x"];
        let arguments = Arguments::try_parse_from(line).unwrap();
        assert!(matches!(
            arguments.command,
            Some(Command::Token(TokenCommand::Create { role: Role::Admin, .. }))
        ));
        assert!(
            Arguments::try_parse_from(["culvertd", "token", "create", "--name", "x", "--role", "root"])
                .is_err()
        );
    }
}
