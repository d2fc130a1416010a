//! Commands on networks.

use serde_json::{Map, Value as Json, json};

use crate::failure::Failure;
use crate::line::parse::Matches;
use crate::opts::env;
use crate::session::{Session, each};
use crate::show::inspect::{self, Object};
use crate::show::table::{Layout, label_method, labels_text, short_id};
use crate::template::value::{Row, Value};
use crate::units;
use crate::wire::Request;
use crate::wire::query::{Query, filters, segment};

const LAYOUT: Layout = Layout {
    table: r"{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    quiet: "{{.ID}}",
    raw: "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
    headings: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
};

/// `network ls`.
pub fn list(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let path = Query::new()
        .some("filters", &filters(&matches.list("filter")))
        .to_path("/networks");
    let reply = session.client()?.call(Request::get(path))?;
    let answer = Value::parse_json(&reply.body).map_err(Failure::Said)?;
    let mut networks: Vec<&Value> = answer.items().iter().collect();
    networks.sort_by(|a, b| a.str_at("Name").cmp(b.str_at("Name")));
    let whole = matches.on("no-trunc");
    let rows: Vec<Value> = networks
        .into_iter()
        .map(|network| row(network, whole))
        .collect();
    let quiet = matches.on("quiet");
    let wanted = match matches.text("format") {
        "" if !quiet => session.config.text("networksFormat"),
        given => given,
    };
    session.out(
        LAYOUT
            .render(&LAYOUT.format(wanted, quiet), &rows)?
            .as_bytes(),
    )?;
    Ok(0)
}

fn row(network: &Value, whole: bool) -> Value {
    let created = network.str_at("Created");
    let created = units::parse_rfc3339(created).map_or(created.to_owned(), |time| {
        format!(
            "{} UTC",
            units::go_time(&time, jiff::tz::TimeZone::UTC).trim_end_matches(" UTC")
        )
    });
    let labels = network.get("Labels").cloned().unwrap_or_default();
    let truth = |key: &str| network.bool_at(key).to_string();
    Row::new("*network.networkContext")
        .with("ID", short_id(network.str_at("Id"), whole))
        .with("Name", network.str_at("Name"))
        .with("Driver", network.str_at("Driver"))
        .with("Scope", network.str_at("Scope"))
        .with("IPv4", truth("EnableIPv4"))
        .with("IPv6", truth("EnableIPv6"))
        .with("Internal", truth("Internal"))
        .with("Labels", labels_text(Some(&labels)))
        .with("CreatedAt", created)
        .method("Label", label_method(&labels))
        .done()
}

/// `network inspect`.
pub fn inspect(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let verbose = matches.on("verbose");
    inspect::run(
        session,
        &matches.args,
        matches.text("format"),
        |session, name| object(session, name, verbose),
    )
}

/// A network as `inspect` shows it.
pub fn object(session: &mut Session<'_>, name: &str, verbose: bool) -> Result<Object, Failure> {
    let path = Query::new()
        .some("verbose", if verbose { "true" } else { "" })
        .to_path(&format!("/networks/{}", segment(name)));
    let reply = session.client()?.call(Request::get(path))?;
    Ok(Object {
        raw: reply.body,
        kind: "Network",
        raw_fallback: true,
    })
}

/// `network create`.
pub fn create(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let name = &matches.args[0];
    let ipv6 = matches.changed("ipv6").then(|| matches.on("ipv6"));
    let ipv4 = matches.changed("ipv4").then(|| matches.on("ipv4"));
    let mut body = json!({
        "Name": name, "CheckDuplicate": true, "Driver": matches.text("driver"), "Scope": matches.text("scope"),
        "IPAM": {
            "Driver": matches.text("ipam-driver"), "Options": env::pairs(&matches.list("ipam-opt")),
            "Config": pools(matches).map_err(Failure::Said)?,
        },
        "Internal": matches.on("internal"), "Attachable": matches.on("attachable"),
        "Ingress": matches.on("ingress"), "ConfigOnly": matches.on("config-only"),
        "Options": env::pairs(&matches.list("opt")), "Labels": env::labels(&[], &matches.list("label"))?,
    });
    for (key, value) in [("EnableIPv4", ipv4), ("EnableIPv6", ipv6)] {
        if let Some(value) = value {
            body[key] = value.into();
        }
    }
    if let Some(from) = matches.given("config-from") {
        body["ConfigFrom"] = json!({"Network": from});
    }
    let answer: Json = session
        .client()?
        .json(Request::post("/networks/create").json(&body))?;
    if let Some(warning) = answer["Warning"]
        .as_str()
        .filter(|warning| !warning.is_empty())
    {
        session.warn(&format!("WARNING: {warning}"));
    }
    session.line(answer["Id"].as_str().unwrap_or_default())?;
    Ok(0)
}

/// Pools of addresses: each gateway, range and reserved address goes to the subnet that holds it.
fn pools(matches: &Matches) -> Result<Vec<Json>, String> {
    let subnets = matches.list("subnet");
    let (ranges, gateways) = (matches.list("ip-range"), matches.list("gateway"));
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err("every ip-range or gateway must have a corresponding subnet".into());
    }
    let mut pools: Vec<(Subnet, Map<String, Json>)> = Vec::new();
    for text in subnets {
        let subnet = Subnet::parse(text).ok_or_else(|| format!("invalid CIDR address: {text}"))?;
        if pools
            .iter()
            .any(|(other, _)| other.holds(subnet.address) || subnet.holds(other.address))
        {
            return Err("multiple overlapping subnet configuration is not supported".into());
        }
        let mut pool = Map::new();
        pool.insert("Subnet".into(), text.into());
        pools.push((subnet, pool));
    }
    let mut place = |text: &str, key: &str, kind: &str| -> Result<(), String> {
        let bare = text.split('/').next().unwrap_or(text);
        let address = bare.parse().map_err(|_| format!("invalid {kind} {text}"))?;
        let Some((_, pool)) = pools.iter_mut().find(|(subnet, _)| subnet.holds(address)) else {
            return Err(format!("no matching subnet for {kind} {text}"));
        };
        if pool.contains_key(key) {
            return Err(format!(
                "cannot configure multiple {kind}s ({text}) on the same subnet"
            ));
        }
        pool.insert(key.into(), text.into());
        Ok(())
    };
    ranges
        .iter()
        .try_for_each(|range| place(range, "IPRange", "range"))?;
    gateways
        .iter()
        .try_for_each(|gateway| place(gateway, "Gateway", "gateway"))?;
    for text in matches.list("aux-address") {
        let (name, address) = text.split_once('=').unwrap_or((text, ""));
        let parsed = address
            .parse()
            .map_err(|_| format!("invalid aux-address {address}"))?;
        let Some((_, pool)) = pools.iter_mut().find(|(subnet, _)| subnet.holds(parsed)) else {
            return Err(format!("no matching subnet for aux-address {address}"));
        };
        pool.entry("AuxiliaryAddresses").or_insert(json!({}))[name] = address.into();
    }
    Ok(pools
        .into_iter()
        .map(|(_, pool)| Json::Object(pool))
        .collect())
}

struct Subnet {
    address: std::net::IpAddr,
    bits: u32,
}

impl Subnet {
    fn parse(text: &str) -> Option<Subnet> {
        let (address, bits) = text.split_once('/')?;
        let address: std::net::IpAddr = address.parse().ok()?;
        let bits: u32 = bits.parse().ok()?;
        (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some(Subnet { address, bits })
    }

    fn holds(&self, other: std::net::IpAddr) -> bool {
        let widen = |ip: std::net::IpAddr| match ip {
            std::net::IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
            std::net::IpAddr::V6(ip) => ip.to_bits(),
        };
        let mask = if self.bits == 0 {
            0
        } else {
            u128::MAX << (128 - self.bits)
        };
        self.address.is_ipv4() == other.is_ipv4()
            && (widen(self.address) ^ widen(other)) & mask == 0
    }
}

/// `network connect`.
pub fn connect(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let (ipv4, ipv6) = (matches.text("ip"), matches.text("ip6"));
    let list = |name: &str| {
        let items = matches.list(name);
        if items.is_empty() {
            Json::Null
        } else {
            json!(items)
        }
    };
    let mut ipam = Map::new();
    for (key, value) in [("IPv4Address", ipv4), ("IPv6Address", ipv6)] {
        if !value.is_empty() {
            ipam.insert(key.into(), value.into());
        }
    }
    if matches.changed("link-local-ip") {
        ipam.insert("LinkLocalIPs".into(), list("link-local-ip"));
    }
    let options = matches.list("driver-opt");
    let body = json!({
        "Container": matches.args[1],
        "EndpointConfig": {
            "IPAMConfig": ipam, "Links": list("link"), "Aliases": list("alias"),
            "DriverOpts": if options.is_empty() { Json::Null } else { env::pairs(&options) },
            "GwPriority": matches.number("gw-priority"),
        },
    });
    let path = format!("/networks/{}/connect", segment(&matches.args[0]));
    session.client()?.call(Request::post(path).json(&body))?;
    Ok(0)
}

/// `network disconnect`.
pub fn disconnect(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let body = json!({"Container": matches.args[1], "Force": matches.on("force")});
    let path = format!("/networks/{}/disconnect", segment(&matches.args[0]));
    session.client()?.call(Request::post(path).json(&body))?;
    Ok(0)
}

/// `network rm`.
pub fn remove(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let force = matches.on("force");
    let code = each(session, &matches.args, |session, name| {
        match session
            .client()?
            .call(Request::delete(format!("/networks/{}", segment(name))))
        {
            Ok(_) => Ok(Some(name.to_owned())),
            Err(failure) if force && failure.not_found() => Ok(None),
            Err(failure) => Err(failure),
        }
    })?;
    if code != 0 {
        session.warn(&format!("exit status {code}"));
    }
    Ok(code)
}

/// `network prune`.
pub fn prune(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let question = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?";
    if !matches.on("force") && !session.confirm(question)? {
        return Ok(0);
    }
    let text = prune_now(session, &matches.list("filter"))?;
    session.out(text.as_bytes())?;
    Ok(0)
}

/// Removes networks that no container uses; the text says which.
pub fn prune_now(session: &mut Session<'_>, filter: &[&str]) -> Result<String, Failure> {
    let path = Query::new()
        .some("filters", &filters(filter))
        .to_path("/networks/prune");
    let answer: Json = session.client()?.json(Request::post(path))?;
    let removed: Vec<&str> = answer["NetworksDeleted"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .collect();
    Ok(match removed.is_empty() {
        true => String::new(),
        false => format!("Deleted Networks:\n{}\n\n", removed.join("\n")),
    })
}
