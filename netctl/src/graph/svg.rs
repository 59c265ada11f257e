//! The picture as SVG. Every thing has a title, which browsers show, and the data that the page searches.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;

use super::{
    layout::{Area, BAR, HostAt, LINE, MARGIN, Paper, SIDE, count, paper, tunnels},
    model::{Device, Host, Picture, Vxlan},
};
use crate::verb::ps::Row;

/// A drawing for itself: the style is in it.
pub fn svg(picture: &Picture) -> String {
    let paper = paper(picture);
    let mut pen = Pen { out: String::new(), picture, spots: BTreeMap::new() };
    pen.head(&paper);
    pen.networks(&paper);
    for (host, at) in picture.hosts.iter().zip(&paper.hosts) {
        pen.host(host, at);
    }
    pen.way();
    pen.out.push_str("</svg>\n");
    pen.out
}

struct Pen<'a> {
    out: String,
    picture: &'a Picture,
    /// Where a device is: by host, namespace and name.
    spots: BTreeMap<(String, String, String), Spot>,
}

/// Where a packet is shown that was at a device.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spot {
    x: f64,
    y: f64,
    /// From there to the first number.
    rise: f64,
    /// To the next number at the same place.
    step: (f64, f64),
    /// Where the host's box begins.
    host: (f64, f64),
}

impl Spot {
    /// Right of what is written in the box.
    fn inside(area: &Area, host: &Area) -> Self {
        let (_, y) = area.middle();
        Self { x: area.x + area.width - 27.0, y, rise: 0.0, step: (18.0, 0.0), host: (host.x, host.y) }
    }

    /// At the line that leads to a box, which has no room beside it.
    fn beside(x: f64, y: f64, host: &Area) -> Self {
        Self { x, y, rise: 10.0, step: (0.0, 20.0), host: (host.x, host.y) }
    }
}

/// How many there are of something.
pub(super) fn number(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

impl Pen<'_> {
    fn head(&mut self, paper: &Paper) {
        let Paper { width, height, .. } = paper;
        let _ = write!(
            self.out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" id=\"picture\" viewBox=\"0 0 {width} {height}\" \
             preserveAspectRatio=\"xMidYMin meet\" width=\"{width}\" height=\"{height}\" font-family=\"DejaVu Sans, Verdana, sans-serif\" font-size=\"11\">\n\
             <style>{STYLE}</style>\n<rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>\n"
        );
        let hosts = self.picture.hosts.len();
        let containers: usize =
            self.picture.hosts.iter().flat_map(|host| &host.groups).map(|group| group.members.len()).sum();
        let wrong = self.picture.findings.len();
        let text = [(hosts, "host"), (containers, "attachment"), (wrong, "finding")];
        let text = text.map(|(count, word)| number(count, word)).join(", ");
        self.text(MARGIN, MARGIN + 6.0, "title", &text);
        for (nth, found) in self.picture.findings.iter().take(1).enumerate() {
            let more = if wrong > 1 { format!(" (and {} more)", wrong - 1) } else { String::new() };
            let line = format!("{}: {}{more}", word(&found["code"]), word(&found["message"]));
            self.text(MARGIN, MARGIN + 24.0 + 14.0 * count(nth), "wrong", &line);
        }
    }

    /// A line a network above each row, joined at the left.
    fn networks(&mut self, paper: &Paper) {
        for (nth, vxlan) in self.picture.tunnels().iter().enumerate() {
            let colour = colour(nth);
            let side = MARGIN + 6.0 + LINE * count(nth % 3);
            let ys: Vec<_> = paper.rows.iter().map(|row| row.y + LINE * count(nth)).collect();
            let (Some(first), Some(last)) = (ys.first(), ys.last()) else { continue };
            let Vxlan { vni, port } = vxlan;
            let _ = write!(
                self.out,
                "<g class=\"net\" stroke=\"{colour}\"><title>VXLAN {vni}, UDP port {port}</title>\
                 <path d=\"M{side} {first}V{last}\"/>"
            );
            for (row, y) in ys.iter().enumerate() {
                let here = paper.hosts.iter().zip(&self.picture.hosts).filter(|(at, _)| at.row == row);
                let tops = here.flat_map(|(at, host)| {
                    let of = tunnels(host, at).filter(|(device, _)| device.vxlan.as_ref() == Some(vxlan));
                    of.map(|(_, area)| (area.middle().0, area.y)).collect::<Vec<_>>()
                });
                let tops: Vec<_> = tops.collect();
                let right = tops.iter().map(|(x, _)| *x).fold(side, f64::max);
                let _ = write!(self.out, "<path d=\"M{side} {y}H{right}\"/>");
                for (x, top) in tops {
                    let _ = write!(
                        self.out,
                        "<path d=\"M{x} {y}V{top}\"/><circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{colour}\"/>"
                    );
                }
            }
            self.out.push_str("</g>\n");
            let label = format!("VXLAN {vni} · udp/{port}");
            let _ = writeln!(
                self.out,
                "<text class=\"label\" x=\"{}\" y=\"{}\" fill=\"{colour}\">{label}</text>",
                side + SIDE + 4.0,
                first - 4.0
            );
        }
    }

    fn host(&mut self, host: &Host, at: &HostAt) {
        let _ = write!(self.out, "<g class=\"host\">");
        let own = self.picture.wrong(&host.name, &["host"]);
        self.open("thing", &host.name, &own);
        self.area(&at.area, "hostbox", 8.0);
        self.text(at.area.x + 12.0, at.area.y + 19.0, "hostname", &host.name);
        if !own.is_empty() {
            self.text(at.area.x + at.area.width - 20.0, at.area.y + 19.0, "wrong", "!");
        }
        self.out.push_str("</g>\n");
        for (device, area) in host.devices.iter().zip(&at.devices) {
            self.device(host, at, device, (area, "chip"));
        }
        for (group, place) in host.groups.iter().zip(&at.groups) {
            for (x, top, bottom) in &place.rails {
                let _ = write!(self.out, "<path class=\"rail\" d=\"M{x} {top}V{bottom}\"/>");
            }
            match &group.device {
                Some(device) => self.device(host, at, device, (&place.bar, "bar")),
                None => {
                    self.area(&place.bar, "bar none", 3.0);
                    self.text(place.bar.x + 8.0, place.bar.y + 17.0, "name", "routed");
                }
            }
            for (row, area) in group.members.iter().zip(&place.members) {
                let (stub, middle) = (area.x - 9.0, area.middle().1);
                let _ = write!(self.out, "<path class=\"rail\" d=\"M{stub} {middle}H{}\"/>", area.x);
                if let Some(veth) = row.host_link() {
                    self.spot(&host.name, "host", veth, Spot::beside(stub, middle, &at.area));
                }
                self.member(&host.name, row, area, &at.area);
            }
        }
        self.out.push_str("</g>\n");
    }

    fn device(&mut self, host: &Host, at: &HostAt, device: &Device, (area, class): (&Area, &str)) {
        let host = host.name.as_str();
        let Device { name, kind, addresses, mac, mtu, up, vxlan } = device;
        let wrong = self.picture.wrong(host, &[name]);
        let mut title = format!("{host}: {name} ({kind})\n{}", addresses.join(", "));
        let _ = write!(title, "\nmac {}, mtu {mtu}", mac.as_deref().unwrap_or("-"));
        if let Some(Vxlan { vni, port }) = vxlan {
            let _ = write!(title, "\nVXLAN {vni}, UDP port {port}");
        }
        if !up {
            title.push_str("\ndown");
        }
        let state = if *up { "" } else { " down" };
        self.open(&format!("thing {class}{state}"), &title, &wrong);
        self.area(area, class, if class == "chip" { 5.0 } else { 3.0 });
        let second = match vxlan {
            Some(vxlan) => format!("VXLAN {}", vxlan.vni),
            None => addresses.first().cloned().unwrap_or_default(),
        };
        if class == "bar" {
            let line = if second.is_empty() { name.clone() } else { format!("{name} · {second}") };
            self.text(area.x + 8.0, area.y + 17.0, "name", &cut(&line, area.width));
        } else {
            self.text(area.x + 8.0, area.y + 15.0, "name", &cut(name, area.width));
            self.text(area.x + 8.0, area.y + 29.0, "small", &cut(&second, area.width));
        }
        self.out.push_str("</g>\n");
        self.spot(host, "host", name, Spot::inside(area, &at.area));
    }

    fn member(&mut self, host: &str, row: &Row, area: &Area, of_host: &Area) {
        let netns = row.netns_name();
        let names: Vec<&str> = [Some(netns), row.host_link()].into_iter().flatten().collect();
        let wrong = self.picture.wrong(host, &names);
        let label = row.label();
        let state = if row.is_well() { "" } else { " down" };
        self.open(&format!("thing member{state}"), &format!("{host}: {}", row.describe()), &wrong);
        self.area(area, "box", 4.0);
        self.text(area.x + 8.0, area.y + 15.0, "name", &cut(label, area.width));
        self.text(area.x + 8.0, area.y + 29.0, "small", &cut(&row.first_address(), area.width));
        self.out.push_str("</g>\n");
        for name in [netns, label] {
            self.spot(host, name, row.ifname(), Spot::inside(area, of_host));
        }
    }

    /// Numbers where a packet was, joined by a line.
    fn way(&mut self) {
        let place = |hop: &Value| {
            let key = [word(&hop["node"]), word(&hop["netns"]), word(&hop["device"])];
            let [node, netns, device] = key;
            let spot = self.spots.get(&(node.to_owned(), netns.to_owned(), device.to_owned()))?;
            Some((*spot, word(&hop["event"]) == "drop"))
        };
        let mut way: Vec<(Spot, bool)> = Vec::new();
        for (spot, dropped) in self.picture.hops.iter().filter_map(place) {
            match way.last_mut() {
                Some((last, drop)) if *last == spot => *drop |= dropped,
                _ => way.push((spot, dropped)),
            }
        }
        if way.is_empty() {
            return;
        }
        let _ = write!(self.out, "<g class=\"way\"><polyline points=\"{}\"/>", line(&way));
        // Where it comes by twice, there and back, each has its place.
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        for (nth, (Spot { x, y, rise, step: (right, down), .. }, dropped)) in way.iter().enumerate() {
            let time = times.entry(format!("{x},{y}")).or_default();
            let (x, y) = (x + right * count(*time), y - rise + down * count(*time));
            *time += 1;
            let class = if *dropped { "hop drop" } else { "hop" };
            let _ = write!(
                self.out,
                "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"8\"/><text class=\"number\" x=\"{x}\" y=\"{}\">{}</text>",
                y + 3.5,
                nth + 1
            );
        }
        self.out.push_str("</g>\n");
    }

    fn spot(&mut self, host: &str, netns: &str, device: &str, at: Spot) {
        self.spots.entry((host.to_owned(), netns.to_owned(), device.to_owned())).or_insert(at);
    }

    fn open(&mut self, class: &str, title: &str, wrong: &[&Value]) {
        let mut title = title.to_owned();
        for found in wrong {
            let (code, message, fix) = (word(&found["code"]), word(&found["message"]), word(&found["fix"]));
            let _ = write!(title, "\n{}[{code}] {message}\nfix: {fix}", word(&found["severity"]));
        }
        let class = if wrong.is_empty() { class.to_owned() } else { format!("{class} bad") };
        let _ = write!(self.out, "<g class=\"{class}\"><title>{}</title>", escape(&title));
    }

    fn area(&mut self, area: &Area, class: &str, round: f64) {
        let Area { x, y, width, height } = area;
        let _ = write!(
            self.out,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{round}\"/>"
        );
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let _ = write!(self.out, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>", escape(text));
    }
}

/// The points of a way. From host to host it goes above what is between them, and from a bridge along its lower edge.
fn line(way: &[(Spot, bool)]) -> String {
    let mut points = Vec::new();
    for (nth, (spot, _)) in way.iter().enumerate() {
        let before = nth.checked_sub(1).map_or(*spot, |before| way[before].0);
        let (higher, lower) = if before.y < spot.y { (before, *spot) } else { (*spot, before) };
        if before.host != spot.host {
            points.extend([(before.x, before.host.1 - ABOVE), (spot.x, spot.host.1 - ABOVE)]);
        } else if lower.rise > 0.0 && lower.y - higher.y > BAR {
            points.extend([(before.x, higher.y + BELOW), (spot.x, higher.y + BELOW)]);
        }
        points.push((spot.x, spot.y));
    }
    points.iter().map(|(x, y)| format!("{x},{y}")).collect::<Vec<_>>().join(" ")
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// As much as fits in the width, at about 6.6 pixels a letter.
fn cut(text: &str, width: f64) -> String {
    let fits = (1..).take_while(|letters| count(*letters) * 6.6 < width - 12.0).last().unwrap_or(1);
    match text.chars().count() > fits {
        true => text.chars().take(fits - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// For text and attributes.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Told apart by the colour-blind (Okabe and Ito).
fn colour(nth: usize) -> &'static str {
    ["#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#d55e00"][nth % 6]
}

/// Between a host's box and the line over it.
const ABOVE: f64 = 9.0;
/// From the middle of a bridge to between it and its members.
const BELOW: f64 = 18.0;
const STYLE: &str = "\
.paper{fill:#fff}.title{font-size:15px;font-weight:bold;fill:#222}.wrong{fill:#b00020;font-weight:bold}\
.hostbox{fill:#f6f8fa;stroke:#8c959f}.hostname{font-size:13px;font-weight:bold;fill:#222}.name{fill:#222;font-weight:bold}\
.small{fill:#57606a}.label{font-weight:bold}rect.chip{fill:#fff;stroke:#8c959f}rect.bar{fill:#ddf4ff;stroke:#54aeff}\
rect.none{fill:#eee;stroke:#8c959f}rect.box{fill:#fff;stroke:#2da44e}.rail{stroke:#54aeff;stroke-width:1.5;fill:none}\
.net path{fill:none;stroke-width:3}.down>rect{stroke-dasharray:4 3;fill:#f0f0f0}.bad>rect{stroke:#b00020;stroke-width:2.5;fill:#ffebe9}\
.way polyline{fill:none;stroke:#8250df;stroke-width:3;stroke-opacity:.45}.hop{fill:#8250df}.drop{fill:#b00020}\
.number{fill:#fff;text-anchor:middle;font-size:9px;font-weight:bold}.faded{opacity:.15}.found>rect{stroke:#8250df;stroke-width:3}";
