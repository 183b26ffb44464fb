//! `--expose 9000=web:8080`: a port of the edge, and where it leads.

use std::str::FromStr;

use plfm_api::views::ExposeRequest;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expose(pub ExposeRequest);

impl FromStr for Expose {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || "write LISTEN=PROCESS:PORT, for example 9000=web:8080".to_owned();
        let (listen, target) = text.split_once('=').ok_or_else(refuse)?;
        let (process, port) = target.rsplit_once(':').filter(|(process, _)| !process.is_empty()).ok_or_else(refuse)?;
        Ok(Self(ExposeRequest { listen: number(listen)?, process: process.to_owned(), port: number(port)? }))
    }
}

fn number(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| format!("`{text}` is not a port: those are 1 to 65535"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ports_and_the_process_are_needed() {
        let expected = ExposeRequest { listen: 9000, process: "web".to_owned(), port: 8080 };
        assert_eq!("9000=web:8080".parse(), Ok(Expose(expected)));
        for text in ["", "9000", "9000=web", "9000=:80", "0=web:80", "9000=web:x", "70000=web:80"] {
            assert!(text.parse::<Expose>().is_err(), "{text}");
        }
    }
}
