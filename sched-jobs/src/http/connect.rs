//! A bare connection, under the same guard as a request.

use tokio::net::TcpStream;

use super::guard::Guard;

/// Reads `host:port`, or `[address]:port`.
pub(crate) fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = host.strip_prefix('[').map_or(Some(host), |rest| rest.strip_suffix(']'))?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let plain = !bare.is_empty() && (bare.len() < host.len() || !bare.contains(':'));
    plain.then_some((bare, port))
}

/// Connects to the first address of a host that takes it.
pub(crate) async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let mut last = String::new();
    for address in Guard::default().resolve(host, port).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert_eq!(host_and_port("db.test:5432"), Some(("db.test", 5432)));
        assert_eq!(host_and_port("[::1]:80"), Some(("::1", 80)));
        for wrong in ["db.test", ":80", "a:0", "a:70000", "::1", "[::1:80", "a:"] {
            assert_eq!(host_and_port(wrong), None, "{wrong}");
        }
    }
}
