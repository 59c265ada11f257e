//! The numbers of the bench as a bar chart in SVG. Pure. Bars are to scale within a row; rows have scales of their own.

use super::contender::Who;
use super::report::{Measured, Row, rows, title};

const WIDTH: usize = 940;
const LABEL: f64 = 370.0;
const BAR_SPACE: f64 = 380.0;
const BAR: usize = 12;
const ROW: usize = 3 * BAR + 14;
const HEAD: usize = 56;

pub(super) fn draw(measured: &[Measured]) -> String {
    let rows = rows(measured);
    let height = HEAD + rows.len() * ROW + 10;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"22\" font-size=\"15\">Time for ADD and DEL, medians (shorter is better)</text>\n"
    );
    for (place, who) in [Who::Ours, Who::Floor, Who::Peer].into_iter().enumerate() {
        let (x, (name, colour)) = (10 + 110 * place, look(who));
        svg += &format!(
            "<rect x=\"{x}\" y=\"34\" width=\"10\" height=\"10\" fill=\"{colour}\"/><text x=\"{}\" y=\"43\">{name}</text>\n",
            x + 15
        );
    }
    for (number, row) in rows.iter().enumerate() {
        svg += &draw_row(row, HEAD + number * ROW);
    }
    svg + "</svg>\n"
}

fn draw_row(Row { ours, floor, peer }: &Row<'_>, top: usize) -> String {
    let bars: Vec<&Measured> = [Some(*ours), *floor, *peer].into_iter().flatten().collect();
    let longest = bars.iter().map(|one| one.median).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg =
        format!("<text x=\"10\" y=\"{}\">{} {}</text>\n", top + 2 * BAR, ours.verb, title(ours.case));
    for (place, one) in bars.into_iter().enumerate() {
        let (y, width) = (top + place * BAR, one.median / longest * BAR_SPACE);
        let ratio =
            if place == 0 { String::new() } else { format!("  ({:.2} of ours)", one.median / ours.median) };
        svg += &format!(
            "<rect x=\"{LABEL}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{}\">{:.2} ms{ratio}</text>\n",
            BAR - 1,
            look(one.who).1,
            LABEL + width + 5.0,
            y + BAR - 2,
            one.median,
        );
    }
    svg
}

fn look(who: Who) -> (&'static str, &'static str) {
    match who {
        Who::Ours => ("Tenon", "#1f6f8b"),
        Who::Floor => ("floor", "#99a8b2"),
        Who::Peer => ("Go plugins", "#e6903a"),
    }
}
