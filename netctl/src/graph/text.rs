//! The picture for other programs: Graphviz and Mermaid.

use std::fmt::Write as _;

use super::model::{Device, Picture, Vxlan};

/// For `dot -Tsvg`.
pub fn dot(picture: &Picture) -> String {
    let mut out = "graph net {\n  rankdir=LR; node [shape=box, style=rounded];\n".to_owned();
    for vxlan in picture.tunnels() {
        let _ = writeln!(out, "  {} [label=\"VXLAN {}\", shape=ellipse];", net(&vxlan), vxlan.vni);
    }
    for (nth, host) in picture.hosts.iter().enumerate() {
        let _ = writeln!(out, "  subgraph cluster_{nth} {{\n    label={};", quoted(&host.name));
        let mut edges = String::new();
        let mut device = |out: &mut String, device: &Device| {
            let id = quoted(&format!("{}/{}", host.name, device.name));
            let _ = writeln!(
                out,
                "    {id} [label={}{}];",
                quoted(&label(device)),
                red(picture, &host.name, &[&device.name])
            );
            if let Some(vxlan) = &device.vxlan {
                let _ = writeln!(edges, "  {id} -- {} [style=bold];", net(vxlan));
            }
            id
        };
        for it in &host.devices {
            device(&mut out, it);
        }
        let mut inside = String::new();
        for group in &host.groups {
            let on = group.device.as_ref().map(|it| device(&mut out, it));
            for row in &group.members {
                let id = quoted(&format!("{}/{}/{}", host.name, row.label(), row.ifname()));
                let names: Vec<&str> =
                    [Some(row.netns_name()), row.host_link()].into_iter().flatten().collect();
                let text = quoted(&format!("{}\n{}", row.label(), row.first_address()));
                let _ = writeln!(inside, "    {id} [label={text}{}];", red(picture, &host.name, &names));
                if let Some(on) = &on {
                    let _ = writeln!(inside, "    {on} -- {id};");
                }
            }
        }
        let _ = writeln!(out, "{inside}  }}\n{edges}");
    }
    out + "}\n"
}

/// For Markdown.
pub fn mermaid(picture: &Picture) -> String {
    let mut out = "graph LR\n".to_owned();
    for vxlan in picture.tunnels() {
        let _ = writeln!(out, "  {}((\"VXLAN {}\"))", net(&vxlan), vxlan.vni);
    }
    let (mut bad, mut number) = (Vec::new(), 0);
    for (nth, host) in picture.hosts.iter().enumerate() {
        let _ = writeln!(out, "  subgraph h{nth}[\"{}\"]", clean(&host.name));
        let mut edges = String::new();
        let mut thing = |out: &mut String, text: &str, names: &[&str]| {
            number += 1;
            let _ = writeln!(out, "    t{number}[\"{}\"]", clean(text));
            if !picture.wrong(&host.name, names).is_empty() {
                bad.push(format!("t{number}"));
            }
            number
        };
        for device in &host.devices {
            let id = thing(&mut out, &label(device), &[&device.name]);
            if let Some(vxlan) = &device.vxlan {
                let _ = writeln!(edges, "  t{id} === {}", net(vxlan));
            }
        }
        for group in &host.groups {
            let on = group.device.as_ref().map(|it| thing(&mut out, &label(it), &[&it.name]));
            for row in &group.members {
                let names: Vec<&str> =
                    [Some(row.netns_name()), row.host_link()].into_iter().flatten().collect();
                let id = thing(&mut out, &format!("{}\n{}", row.label(), row.first_address()), &names);
                if let Some(on) = on {
                    let _ = writeln!(edges, "  t{on} --- t{id}");
                }
            }
        }
        let _ = write!(out, "  end\n{edges}");
    }
    if !bad.is_empty() {
        let _ =
            writeln!(out, "  classDef bad stroke:#b00020,stroke-width:3px\n  class {} bad", bad.join(","));
    }
    out
}

fn label(device: &Device) -> String {
    match device.addresses.first() {
        Some(address) => format!("{}\n{address}", device.name),
        None => device.name.clone(),
    }
}

fn net(vxlan: &Vxlan) -> String {
    format!("vxlan_{}_{}", vxlan.vni, vxlan.port)
}

fn red(picture: &Picture, host: &str, names: &[&str]) -> &'static str {
    if picture.wrong(host, names).is_empty() { "" } else { ", color=red" }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn clean(text: &str) -> String {
    text.replace('"', "#quot;").replace('\n', "<br/>")
}
