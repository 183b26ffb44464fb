//! `--expose 9000=web:8080`, `--expose db.localhost=db:5433/tls`: a port or a name of the edge, and where it leads.

use std::str::FromStr;

use plfm_api::views::{ExposeRequest, Listen};
use plfm_core::event::Tls;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expose(pub ExposeRequest);

impl FromStr for Expose {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || "write LISTEN=PROCESS:PORT, for example 9000=web:8080 or db.localhost=db:5433/tls".to_owned();
        let (listen, target) = text.split_once('=').ok_or_else(refuse)?;
        let (process, port) = target.rsplit_once(':').filter(|(process, _)| !process.is_empty()).ok_or_else(refuse)?;
        let (port, tls) = match port.split_once('/') {
            None => (port, Tls::Terminated),
            Some((port, "tls")) => (port, Tls::Passthrough),
            Some(_) => return Err(refuse()),
        };
        let is_name = listen.contains('.');
        let listen = if is_name { Listen::Hostname(listen.to_owned()) } else { Listen::Port(number(listen)?) };
        Ok(Self(ExposeRequest { listen, process: process.to_owned(), port: number(port)?, tls }))
    }
}

fn number(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| format!("`{text}` is neither a port, 1 to 65535, nor a host name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ports_and_the_process_are_needed() {
        let web =
            ExposeRequest { listen: Listen::Port(9000), process: "web".to_owned(), port: 8080, tls: Tls::Terminated };
        assert_eq!("9000=web:8080".parse(), Ok(Expose(web.clone())));
        let name = ExposeRequest { listen: Listen::Hostname("db.localhost".to_owned()), ..web };
        assert_eq!("db.localhost=web:8080".parse(), Ok(Expose(name.clone())));
        let passed = ExposeRequest { tls: Tls::Passthrough, ..name };
        assert_eq!("db.localhost=web:8080/tls".parse(), Ok(Expose(passed)));
        for text in
            ["", "9000", "9000=web", "9000=:80", "0=web:80", "9000=web:x", "70000=web:80", "db=web:80", "9000=web:80/x"]
        {
            assert!(text.parse::<Expose>().is_err(), "{text}");
        }
    }
}
