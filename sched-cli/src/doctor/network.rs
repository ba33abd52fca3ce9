//! Where it listens: whether the port is free, and who can reach it.

use std::net::{SocketAddr, TcpListener};

use super::Check;
use crate::compose::Setup;
use crate::daemon::marker::{Marker, Note as _};
use crate::daemon::place::{is_held, socket_in};

pub(super) fn checks(setup: &Setup) -> Vec<Check> {
    let config = &setup.config;
    // A marker of a scheduler that is gone says nothing.
    let ours = Marker::read(&config.data_dir).filter(|_| is_held(&config.data_dir)).map(|marker| marker.http);
    let mut checks = vec![port(config.listen, ours.as_deref())];
    if !config.listen.ip().is_loopback() {
        let remedy = "put a proxy with TLS in front and listen on 127.0.0.1, or let a firewall admit whom you mean: the key and sessions go unencrypted";
        checks.push(Check::warn("reach", format!("{} answers other machines, without TLS", config.listen), remedy));
    }
    if config.data_dir.is_dir() {
        checks.push(match socket_in(&config.data_dir) {
            Ok((path, _)) if path.starts_with("/proc") => {
                Check::ok("control socket", "its path is over the limit of sockets, and is reached another way")
            }
            Ok((path, _)) => Check::ok("control socket", path.display().to_string()),
            Err(error) => {
                Check::bad("control socket", error.to_string(), "make the data folder readable for this user")
            }
        });
    }
    checks
}

/// Tried by listening for a moment; nothing tells so well.
fn port(listen: SocketAddr, ours: Option<&str>) -> Check {
    if listen.port() == 0 {
        return Check::ok("port", format!("{listen}: any free port"));
    }
    if ours == Some(listen.to_string().as_str()) {
        return Check::ok("port", format!("{listen}: the running scheduler answers there"));
    }
    match TcpListener::bind(listen) {
        Ok(_) => Check::ok("port", format!("{listen} is free")),
        Err(error) => {
            let remedy = match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    format!(
                        "another program has it (`ss -ltnp sport = :{}` names it); choose another port with http.listen",
                        listen.port()
                    )
                }
                std::io::ErrorKind::PermissionDenied => "ports below 1024 need root; choose a higher one".into(),
                _ => "choose an address of this machine with http.listen".into(),
            };
            Check::bad("port", format!("{listen}: {error}"), remedy)
        }
    }
}
