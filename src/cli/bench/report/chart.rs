//! Charts as SVG: bars, and curves.

use std::fmt::Write;

/// Colours that are told apart, also by those who see fewer.
const COLOURS: [&str; 8] = [
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#332288",
];

const WIDTH: f64 = 760.0;
const BAR_HEIGHT: f64 = 22.0;
/// Where bars begin, behind their names.
const BARS_FROM: f64 = 190.0;
/// What is left behind the longest bar, for its figure.
const FIGURE_WIDTH: f64 = 130.0;

const PLOT_HEIGHT: f64 = 300.0;
const PLOT_LEFT: f64 = 70.0;
/// For half of the last label.
const PLOT_RIGHT: f64 = WIDTH - 30.0;
const PLOT_TOP: f64 = 10.0;
/// Below a plot: its ticks, and the name of its axis.
const PLOT_BELOW: f64 = 45.0;
const LEGEND_HEIGHT: f64 = 18.0;

/// What stands for a character in HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A bar for each name, from zero on.
pub(super) fn bars(rows: &[(String, f64)]) -> String {
    let longest = rows.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let mut bars = String::new();
    let mut top = 0.0;
    for (name, value) in rows {
        let share = if longest > 0.0 { value / longest } else { 0.0 };
        let length = share.max(0.0) * (WIDTH - BARS_FROM - FIGURE_WIDTH);
        let middle = top + BAR_HEIGHT / 2.0;
        let _ = write!(
            bars,
            "<text x=\"{}\" y=\"{middle}\" class=\"name\">{}</text>\
             <rect x=\"{BARS_FROM}\" y=\"{}\" width=\"{length:.1}\" height=\"{}\" fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{middle}\">{}</text>",
            BARS_FROM - 8.0,
            escape(name),
            top + 3.0,
            BAR_HEIGHT - 6.0,
            COLOURS[0],
            BARS_FROM + length + 6.0,
            figure(*value),
        );
        top += BAR_HEIGHT;
    }
    svg(top, &bars)
}

/// A figure of as many digits as people read.
pub(super) fn figure(value: f64) -> String {
    match value.abs() {
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// An axis: its name, and its ticks, each at a value.
#[derive(Debug)]
pub(super) struct Axis {
    name: &'static str,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// With a tick at each of these, the first at the beginning and the last at the end.
    pub(super) fn of(name: &'static str, ticks: Vec<(f64, String)>) -> Self {
        Self { name, ticks }
    }

    /// Powers of ten that hold all of these values, which are shown by their logarithms.
    pub(super) fn logarithmic(name: &'static str, values: impl Iterator<Item = f64>) -> Self {
        let bounds = values.fold(None, |bounds: Option<(f64, f64)>, value| {
            let (low, high) = bounds.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        });
        let (low, high) = bounds.unwrap_or((0.0, 1.0));
        let (mut at, end) = (low.floor(), high.ceil().max(low.floor() + 1.0));
        let mut ticks = Vec::new();
        while at <= end {
            ticks.push((at, power_of_ten(at)));
            at += 1.0;
        }
        Self { name, ticks }
    }

    /// Where a value is, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let ends = self.ticks.first().zip(self.ticks.last());
        let Some(((first, _), (last, _))) = ends.filter(|(first, last)| first.0 < last.0) else {
            return 0.0;
        };
        ((value - first) / (last - first)).clamp(0.0, 1.0)
    }
}

fn power_of_ten(exponent: f64) -> String {
    let value = 10f64.powf(exponent);
    if value >= 1.0 {
        format!("{value:.0}")
    } else {
        format!("{value}")
    }
}

/// Curves through points, with the names of the curves below.
pub(super) fn curves(x: &Axis, y: &Axis, curves: &[(String, Vec<(f64, f64)>)]) -> String {
    let across = |value: f64| PLOT_LEFT + x.place(value) * (PLOT_RIGHT - PLOT_LEFT);
    let up = |value: f64| PLOT_TOP + (1.0 - y.place(value)) * PLOT_HEIGHT;
    let bottom = PLOT_TOP + PLOT_HEIGHT;
    let mut plot = String::new();
    for (value, label) in &x.ticks {
        let at = across(*value);
        let _ = write!(
            plot,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{PLOT_TOP}\" y2=\"{bottom}\"/>\
             <text x=\"{at:.1}\" y=\"{}\" class=\"tick\">{}</text>",
            bottom + 14.0,
            escape(label)
        );
    }
    for (value, label) in &y.ticks {
        let at = up(*value);
        let _ = write!(
            plot,
            "<line x1=\"{PLOT_LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{}\" y=\"{at:.1}\" class=\"name\">{}</text>",
            PLOT_RIGHT,
            PLOT_LEFT - 6.0,
            escape(label)
        );
    }
    let _ = write!(
        plot,
        "<text x=\"{}\" y=\"{}\" class=\"tick\">{} (upward: {})</text>",
        WIDTH / 2.0,
        bottom + 34.0,
        escape(x.name),
        escape(y.name)
    );
    let mut legend = bottom + PLOT_BELOW;
    for ((name, points), colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let mut path = String::new();
        for (value_x, value_y) in points {
            let _ = write!(path, "{:.1},{:.1} ", across(*value_x), up(*value_y));
        }
        let _ = write!(
            plot,
            "<polyline points=\"{}\" stroke=\"{colour}\"/>\
             <rect x=\"{PLOT_LEFT}\" y=\"{}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{legend}\">{}</text>",
            path.trim_end(),
            legend - 2.0,
            PLOT_LEFT + 22.0,
            escape(name)
        );
        legend += LEGEND_HEIGHT;
    }
    svg(legend, &plot)
}

fn svg(height: f64, content: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" role=\"img\">{content}</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_figures_say() {
        let chart = bars(&[("W1".into(), 5.0), ("<W2>".into(), 10.0)]);
        assert!(chart.contains("width=\"220.0\"") && chart.contains("width=\"440.0\""));
        assert!(chart.contains("&lt;W2&gt;") && !chart.contains("<W2>"));
    }

    #[test]
    fn a_logarithmic_axis_holds_all_values_between_powers_of_ten() {
        let axis = Axis::logarithmic("ms", [0.3, 1.7].into_iter());
        let labels: Vec<_> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["1", "10", "100"]);
        assert!((axis.place(1.0) - 0.5).abs() < 1e-9);
        let nothing = Axis::logarithmic("ms", std::iter::empty());
        assert_eq!(nothing.ticks.len(), 2);
    }

    #[test]
    fn a_curve_goes_through_its_points() {
        let x = Axis::of("x", vec![(0.0, "0".into()), (1.0, "1".into())]);
        let y = Axis::of("y", vec![(0.0, "0".into()), (1.0, "1".into())]);
        let chart = curves(&x, &y, &[("one".into(), vec![(0.0, 0.0), (1.0, 1.0)])]);
        assert!(
            chart.contains("points=\"70.0,310.0 730.0,10.0\""),
            "{chart}"
        );
    }
}
