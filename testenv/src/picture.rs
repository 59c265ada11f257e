//! A network drawn in text: what lies outside, the host, the containers on it. Pure: knows no kernel.

use std::iter::repeat_n;

/// A box with a title in its upper edge.
pub struct Node {
    pub title: String,
    pub lines: Vec<String>,
}

/// One host with what is around it.
pub struct Picture {
    pub outside: Node,
    pub host: Node,
    pub containers: Vec<Node>,
}

/// Where in a box the line to the box above or below meets its edge.
const JOINT: usize = 3;

impl Picture {
    /// The picture, each line ended by a newline.
    pub fn draw(&self) -> String {
        let joints = self.joints();
        let row: usize = self.containers.iter().map(Node::width).sum();
        let width = self.host.width().max(self.outside.width()).max(row);
        let mut lines = self.outside.draw(width, &[], &[JOINT]);
        lines.extend(self.host.draw(width, &[JOINT], &joints));
        lines.extend(side_by_side(&self.containers));
        lines.into_iter().map(|line| line.trim_end().to_string() + "\n").collect()
    }

    /// The columns of the host's lower edge that containers hang from.
    fn joints(&self) -> Vec<usize> {
        let mut start = 0;
        let place = |node: &Node| {
            let joint = start + JOINT;
            start += node.width();
            joint
        };
        self.containers.iter().map(place).collect()
    }
}

impl Node {
    /// Its least width, edges included.
    fn width(&self) -> usize {
        let longest = self.lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        (longest + 4).max(self.title.chars().count() + JOINT + 6)
    }

    fn draw(&self, width: usize, above: &[usize], below: &[usize]) -> Vec<String> {
        let mut top = edge('┌', '┐', width, above, '┴');
        let title: Vec<char> = format!(" {} ", self.title).chars().collect();
        top.splice(JOINT + 2..JOINT + 2 + title.len(), title);
        let mut lines = vec![top.into_iter().collect::<String>()];
        for line in &self.lines {
            lines.push(format!("│ {line}{} │", spaces(width - 4 - line.chars().count())));
        }
        lines.push(edge('└', '┘', width, below, '┬').into_iter().collect());
        lines
    }
}

fn edge(left: char, right: char, width: usize, joints: &[usize], joint: char) -> Vec<char> {
    let mut edge: Vec<char> = repeat_n('─', width).collect();
    for at in joints {
        edge[*at] = joint;
    }
    (edge[0], edge[width - 1]) = (left, right);
    edge
}

fn side_by_side(nodes: &[Node]) -> Vec<String> {
    let drawn: Vec<Vec<String>> = nodes.iter().map(|node| node.draw(node.width(), &[JOINT], &[])).collect();
    let height = drawn.iter().map(Vec::len).max().unwrap_or(0);
    let row = |number: usize| {
        let part = |(node, lines): (&Node, &Vec<String>)| {
            lines.get(number).cloned().unwrap_or_else(|| spaces(node.width()))
        };
        nodes.iter().zip(&drawn).map(part).collect()
    };
    (0..height).map(row).collect()
}

fn spaces(count: usize) -> String {
    " ".repeat(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(title: &str, lines: &[&str]) -> Node {
        Node { title: title.to_string(), lines: lines.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn a_host_with_two_containers() {
        let picture = Picture {
            outside: node("outside", &["198.51.100.254"]),
            host: node("host", &["up0 198.51.100.1/24", "cni0 10.1.0.1/16"]),
            containers: vec![
                node("c1", &["eth0 10.1.0.2/16", "ADD 2.1 ms"]),
                node("c2", &["eth0 10.1.0.3/16"]),
            ],
        };
        let expected = "\
┌──── outside ─────────────────────────┐
│ 198.51.100.254                       │
└──┬───────────────────────────────────┘
┌──┴─ host ────────────────────────────┐
│ up0 198.51.100.1/24                  │
│ cni0 10.1.0.1/16                     │
└──┬───────────────────┬───────────────┘
┌──┴─ c1 ──────────┐┌──┴─ c2 ──────────┐
│ eth0 10.1.0.2/16 ││ eth0 10.1.0.3/16 │
│ ADD 2.1 ms       │└──────────────────┘
└──────────────────┘
";
        assert_eq!(picture.draw(), expected);
    }

    #[test]
    fn no_container_and_nothing_to_say() {
        let picture = Picture { outside: node("o", &[]), host: node("h", &[]), containers: Vec::new() };
        assert_eq!(picture.draw(), "┌──── o ─┐\n└──┬─────┘\n┌──┴─ h ─┐\n└────────┘\n");
    }
}
