//! A question to PostgreSQL, in a transaction that can only read.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use futures_core::Stream as _;
use serde_json::Value;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Error, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::sql::{LARGEST, MOST_ROWS, too_large};
use crate::http::tls_config;

/// The rows as objects, at most one more than there may be, each as PostgreSQL writes it in JSON.
pub(super) async fn ask(url: &str, query: &str, limit: Duration) -> Result<Vec<Value>, String> {
    let mut config: Config = url.parse().map_err(|_| "not the URL of a PostgreSQL database".to_owned())?;
    config.connect_timeout(limit).application_name("sched");
    if config.get_ssl_mode() == SslMode::Prefer {
        config.ssl_mode(ssl_mode(config.get_hosts()));
    }
    if config.get_ssl_mode() == SslMode::Disable {
        // A socket has no name for which TLS could be made ready.
        return asked(&config, NoTls, query, limit).await;
    }
    asked(&config, MakeRustlsConnect::new(tls_config()?), query, limit).await
}

async fn asked<T>(config: &Config, tls: T, query: &str, limit: Duration) -> Result<Vec<Value>, String>
where
    T: MakeTlsConnect<Socket>,
{
    let (client, connection) = config.connect(tls).await.map_err(|error| explain(&error))?;
    // It ends with the client: whoever stops asking, by dropping this, closes the connection.
    let served = async { connection.await.map_err(|error| explain(&error)) };
    tokio::select! {
        biased;
        asked = question(&client, query, limit) => asked,
        ended = served => Err(ended.err().unwrap_or_else(|| "the server has closed the connection".into())),
    }
}

/// What is used unless the URL says: TLS, but for a server on this machine.
fn ssl_mode(hosts: &[Host]) -> SslMode {
    let here = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => matches!(name.as_str(), "localhost" | "127.0.0.1" | "::1"),
    };
    if hosts.iter().all(here) { SslMode::Disable } else { SslMode::Require }
}

async fn question(client: &Client, query: &str, limit: Duration) -> Result<Vec<Value>, String> {
    let fault = |error: Error| explain(&error);
    // The server stops a question that nobody waits for any more.
    let milliseconds = limit.as_millis().clamp(1, 86_400_000);
    let begin =
        format!("SET statement_timeout = {milliseconds}; SET default_transaction_read_only = on; BEGIN READ ONLY");
    client.batch_execute(&begin).await.map_err(fault)?;
    // A comment at its end must not swallow what follows.
    let query = query.trim().trim_end_matches(';');
    // What is too long stays with the server.
    let text = format!(
        "SELECT CASE WHEN octet_length(row) <= {LARGEST} THEN row END FROM \
         (SELECT row_to_json(asked)::text AS row FROM (\n{query}\n) AS asked LIMIT {}) AS rows",
        MOST_ROWS + 1
    );
    let nothing: [&(dyn ToSql + Sync); 0] = [];
    let mut rows = pin!(client.query_raw(&text, nothing).await.map_err(fault)?);
    let mut size = 0;
    let mut values = Vec::new();
    while let Some(row) = poll_fn(|cx| rows.as_mut().poll_next(cx)).await {
        let row = row.map_err(fault)?;
        let text: Option<&str> = row.try_get(0).map_err(fault)?;
        let text = text.filter(|text| size + text.len() <= LARGEST).ok_or_else(too_large)?;
        size += text.len();
        values.push(serde_json::from_str(text).map_err(|error| format!("an odd row: {error}"))?);
    }
    Ok(values)
}

/// What the server says, or the causes; never the URL, which may hold a password.
fn explain(error: &Error) -> String {
    if let Some(said) = error.as_db_error() {
        let hint = said.hint().map_or(String::new(), |hint| format!(" ({hint})"));
        return format!("the database: {}{hint}", said.message());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}
