//! The ports of a process, and the health check that needs one of them.

use super::readers::{each, integer, table, text};
use super::rules::{self, Refusal, choice, name, quoted, whole};
use super::section::{Node, Section};
use super::{Code, Health, HealthCheck, Port};

/// Where a guest's daemon is asked to run commands and to move files (`plfm_api::channel::port::ENVD`).
pub const RESERVED: u16 = 49_983;

pub(super) fn ports(node: Node) -> Option<Vec<Port>> {
    let mut seen = Vec::new();
    let mut ports = each(table(|section| port(section, &mut seen)))(node)?;
    ports.sort_by(|one, other| one.name.cmp(&other.name));
    Some(ports)
}

fn port(section: &mut Section, seen: &mut Vec<Port>) -> Option<Port> {
    let number = integer(whole(1..=u16::MAX, Code::PortRange));
    let internal = section.required("internal", (Code::PortRange, "internal = 8080"), number);
    if internal == Some(RESERVED) {
        let message = format!("port {RESERVED} belongs to the machine's own daemon");
        section.refuse::<()>("internal", Refusal::new(Code::PortRange, message, "let the app listen on another port"));
    }
    let derived = internal.map_or_else(String::new, |internal| format!("p{internal}"));
    let name = section.or("name", derived, text(name(Code::PortName)));
    section.optional("protocol", text(choice(&[("tcp", ())], Code::PortProtocol)));
    let port = Port { internal: internal?, name: name? };
    refuse_duplicate(section, &port, seen);
    seen.push(port.clone());
    Some(port)
}

fn refuse_duplicate(section: &Section, port: &Port, seen: &[Port]) {
    let refuse = |key, what: String| {
        let message = format!("the process has another port {what}");
        section.refuse::<()>(key, Refusal::new(Code::PortDuplicate, message, "give each port its own number and name"));
    };
    if seen.iter().any(|other| other.internal == port.internal) {
        refuse("internal", port.internal.to_string());
    } else if seen.iter().any(|other| other.name == port.name) {
        refuse("name", format!("`{}`", port.name));
    }
}

/// `ports` is none when they could not all be read: then the check may be of one of them.
pub(super) fn health(section: &mut Section, ports: Option<&[Port]>) -> Option<Health> {
    let checks = choice(&[("tcp", HealthCheck::Tcp), ("http", HealthCheck::Http)], Code::HealthType);
    let check = section.or("type", HealthCheck::Tcp, text(checks));
    let port = section.required("port", (Code::HealthPort, "port = 8080"), |node| declared_port(node, ports));
    let path = health_path(section, check);
    let mut count = |key, default, range| section.or(key, default, integer(whole(range, Code::HealthTiming)));
    let interval = count("interval_seconds", 10, 1..=300);
    // A short interval shortens the default too; what is written must fit.
    let longest = interval.unwrap_or(300);
    let timeout = count("timeout_seconds", TIMEOUT_SECONDS.min(longest), 1..=longest);
    let grace = count("grace_period_seconds", 10, 0..=600);
    let successes = count("success_threshold", 1, 1..=10);
    let failures = count("failure_threshold", 3, 1..=30);
    Some(Health {
        check: check?,
        port: port?,
        path,
        interval_seconds: interval?,
        timeout_seconds: timeout?,
        grace_period_seconds: grace?,
        success_threshold: successes?,
        failure_threshold: failures?,
    })
}

const TIMEOUT_SECONDS: u32 = 2;

fn health_path(section: &mut Section, check: Option<HealthCheck>) -> Option<String> {
    let reader = text(rules::health_path);
    match check {
        Some(HealthCheck::Http) => section.required("path", (Code::HealthPath, "path = \"/healthz\""), reader),
        _ => section.optional("path", reader),
    }
}

fn declared_port(node: Node, ports: Option<&[Port]>) -> Option<u16> {
    let (place, value) = (node.place.clone(), node.value());
    let Some(value) = value.filter(|value| value.is_str() || value.is_integer()) else {
        return node.mistyped("the name or number of a port", "8080");
    };
    let is_meant =
        |port: &&Port| value.as_str() == Some(&port.name) || value.as_integer() == Some(port.internal.into());
    let found = ports?.iter().find(is_meant);
    found.map(|port| port.internal).or_else(|| place.refuse(undeclared(value)))
}

fn undeclared(value: &toml_edit::Value) -> Refusal {
    let written = value.as_str().map_or_else(|| format!("`{value}`").replace(' ', ""), quoted);
    let hint = "name a port of `ports`, by its name or number";
    Refusal::new(Code::HealthPort, format!("the process has no port {written}"), hint)
}
