//! Where things are on paper. Hosts are in rows; above each row runs a line for each tunnel network, so that fifty hosts need no more
//! lines than three. Containers hang in columns on rails below their bridge. Pure numbers, in pixels.

use super::model::{Device, Group, Host, Picture};

/// A rectangle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// The whole paper.
#[derive(Debug)]
pub struct Paper {
    pub width: f64,
    pub height: f64,
    pub rows: Vec<Line>,
    pub hosts: Vec<HostAt>,
}

/// A row of hosts: its lines are above it.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Of the uppermost line.
    pub y: f64,
}

#[derive(Debug)]
pub struct HostAt {
    pub area: Area,
    pub row: usize,
    /// In the order of the host's devices.
    pub devices: Vec<Area>,
    pub groups: Vec<GroupAt>,
}

#[derive(Debug)]
pub struct GroupAt {
    /// The device that the members hang on.
    pub bar: Area,
    /// In the order of the group's members.
    pub members: Vec<Area>,
    /// Top and bottom of the line that each column hangs on.
    pub rails: Vec<(f64, f64, f64)>,
}

impl Area {
    pub fn middle(&self) -> (f64, f64) {
        (self.x + self.width / 2.0, self.y + self.height / 2.0)
    }
}

pub fn paper(picture: &Picture) -> Paper {
    let lines = count(picture.tunnels().len()) * LINE;
    let sizes: Vec<_> = picture.hosts.iter().map(size).collect();
    let columns = columns(&sizes);
    let (mut hosts, mut rows) = (Vec::new(), Vec::new());
    let (mut top, mut width) = (MARGIN + TITLE, 0_f64);
    for (row, of_row) in picture.hosts.chunks(columns).enumerate() {
        rows.push(Line { y: top });
        top += lines + GAP;
        let mut left = MARGIN + SIDE;
        let sizes = &sizes[row * columns..row * columns + of_row.len()];
        let height = sizes.iter().map(|size| size.1).fold(0.0, f64::max);
        for (host, (wide, high)) in of_row.iter().zip(sizes) {
            let area = Area { x: left, y: top, width: *wide, height: *high };
            hosts.push(place(host, area, row));
            left += wide + GAP;
        }
        width = width.max(left);
        top += height + GAP;
    }
    Paper { width: width.max(MARGIN * 2.0 + 560.0), height: top + MARGIN, rows, hosts }
}

/// For a paper half as wide again as it is high, as screens are; a few hosts are one row.
fn columns(sizes: &[(f64, f64)]) -> usize {
    if sizes.len() <= 4 {
        return sizes.len().max(1);
    }
    let sum = sizes.iter().fold((0.0, 0.0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
    let shape = |columns: &usize| {
        let rows = sizes.len().div_ceil(*columns);
        (count(*columns) * sum.0 / (count(rows) * sum.1) / 1.5).ln().abs()
    };
    (1..=sizes.len()).min_by(|a, b| shape(a).total_cmp(&shape(b))).unwrap_or(1)
}

fn size(host: &Host) -> (f64, f64) {
    let chips = count(host.devices.len().min(CHIPS)).max(1.0) * (CHIP + INNER) + INNER;
    let groups = host.groups.iter().map(|group| group_size(group).0 + INNER).sum::<f64>() + INNER;
    let high = host.groups.iter().map(|group| group_size(group).1).fold(0.0, f64::max);
    (chips.max(groups).max(180.0), HEAD + chip_rows(host) + high + INNER)
}

fn chip_rows(host: &Host) -> f64 {
    count(host.devices.len().div_ceil(CHIPS)) * (CHIP_HIGH + INNER)
}

/// Columns of members in a group.
fn across(group: &Group) -> usize {
    match group.members.len() {
        0..=3 => 1,
        4..=12 => 2,
        13..=30 => 3,
        many => many.div_ceil(12).min(12),
    }
}

fn group_size(group: &Group) -> (f64, f64) {
    let across = across(group);
    let down = group.members.len().div_ceil(across);
    (count(across) * (BOX + RAIL), BAR + count(down) * (BOX_HIGH + 6.0) + 12.0)
}

fn place(host: &Host, area: Area, row: usize) -> HostAt {
    let chip = |nth: usize| Area {
        x: area.x + INNER + count(nth % CHIPS) * (CHIP + INNER),
        y: area.y + HEAD + count(nth / CHIPS) * (CHIP_HIGH + INNER),
        width: CHIP,
        height: CHIP_HIGH,
    };
    let devices = (0..host.devices.len()).map(chip).collect();
    let (mut left, top) = (area.x + INNER, area.y + HEAD + chip_rows(host));
    let mut groups = Vec::new();
    for group in &host.groups {
        groups.push(place_group(group, left, top));
        left += group_size(group).0 + INNER;
    }
    HostAt { area, row, devices, groups }
}

fn place_group(group: &Group, left: f64, top: f64) -> GroupAt {
    let (width, _) = group_size(group);
    let across = across(group);
    let down = group.members.len().div_ceil(across).max(1);
    let column = |nth: usize| left + count(nth / down) * (BOX + RAIL);
    let line = |nth: usize| top + BAR + 10.0 + count(nth % down) * (BOX_HIGH + 6.0);
    let member = |nth: usize| Area { x: column(nth) + RAIL, y: line(nth), width: BOX, height: BOX_HIGH };
    let members: Vec<_> = (0..group.members.len()).map(member).collect();
    let rails = (0..across).filter_map(|nth| {
        let last = members.get(((nth + 1) * down - 1).min(group.members.len().checked_sub(1)?))?;
        (nth * down < group.members.len())
            .then(|| (column(nth * down) + RAIL / 2.0, top + BAR, last.y + last.height / 2.0))
    });
    let rails = rails.collect();
    GroupAt { bar: Area { x: left, y: top, width, height: BAR }, members, rails }
}

/// The host's devices that are tunnels, with their places.
pub fn tunnels<'a>(host: &'a Host, at: &'a HostAt) -> impl Iterator<Item = (&'a Device, &'a Area)> {
    host.devices.iter().zip(&at.devices).filter(|(device, _)| device.vxlan.is_some())
}

#[expect(clippy::cast_precision_loss, reason = "numbers of things on a picture are small")]
pub fn count(number: usize) -> f64 {
    number as f64
}

pub const MARGIN: f64 = 24.0;
const TITLE: f64 = 46.0;
/// Left of the hosts, for the line that joins the rows and its name.
pub const SIDE: f64 = 40.0;
/// Between the lines of two networks.
pub const LINE: f64 = 12.0;
const GAP: f64 = 22.0;
const HEAD: f64 = 30.0;
const INNER: f64 = 10.0;
/// Devices in one row.
const CHIPS: usize = 3;
const CHIP: f64 = 132.0;
const CHIP_HIGH: f64 = 36.0;
/// The height of what members hang on.
pub const BAR: f64 = 26.0;
const BOX: f64 = 158.0;
const BOX_HIGH: f64 = 36.0;
const RAIL: f64 = 18.0;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn picture(hosts: usize, containers: usize) -> Picture {
        let member = |nth: usize| {
            serde_json::from_value(json!({"node": "n", "container": format!("c{nth}"), "id": "x", "network": "o",
                "ifname": "eth0", "ips": [], "mac": null, "mtu": null, "hostInterface": null, "bridge": "cni0",
                "ports": [], "netns": null, "plugin": null, "state": "ok"}))
            .unwrap()
        };
        let device = |name: &str| {
            let vxlan = (name == "ovl").then_some(crate::graph::model::Vxlan { vni: 7, port: 4789 });
            let (kind, addresses) = ("x".to_owned(), Vec::new());
            Device { name: name.to_owned(), kind, addresses, mac: None, mtu: 1500, up: true, vxlan }
        };
        let host = |nth: usize| Host {
            name: format!("n{nth}"),
            devices: vec![device("eth0"), device("ovl")],
            groups: vec![Group {
                device: Some(device("cni0")),
                members: (0..containers).map(member).collect(),
            }],
        };
        Picture { hosts: (0..hosts).map(host).collect(), findings: Vec::new(), hops: Vec::new() }
    }

    fn overlap(a: &Area, b: &Area) -> bool {
        a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
    }

    /// Nothing covers anything, and all is on the paper and in its host.
    #[test]
    fn nothing_overlaps() {
        for (hosts, containers) in [(0, 0), (1, 0), (1, 1), (3, 10), (3, 30), (50, 4), (2, 150)] {
            let picture = picture(hosts, containers);
            let paper = paper(&picture);
            assert_eq!(paper.hosts.len(), hosts);
            for (nth, host) in paper.hosts.iter().enumerate() {
                let members = host.groups.iter().flat_map(|group| group.members.iter().chain([&group.bar]));
                let inside: Vec<_> = members.chain(&host.devices).collect();
                assert_eq!(inside.len(), containers + 3);
                for (first, a) in inside.iter().enumerate() {
                    let fits = a.x >= host.area.x && a.x + a.width <= host.area.x + host.area.width + 0.1;
                    let fits = fits && a.y + a.height <= host.area.y + host.area.height + 0.1;
                    assert!(fits, "{hosts} {containers}: {a:?} in {:?}", host.area);
                    assert!(
                        !inside[first + 1..].iter().any(|b| overlap(a, b)),
                        "{hosts} {containers}: {a:?}"
                    );
                }
                assert!(!paper.hosts[nth + 1..].iter().any(|other| overlap(&host.area, &other.area)));
                assert!(
                    host.area.x + host.area.width <= paper.width
                        && host.area.y + host.area.height <= paper.height
                );
            }
        }
    }
}
