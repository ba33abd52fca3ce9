//! Charts as SVG within a page: escaped, without script, readable in words. Pure.

use std::fmt::Write as _;

use super::{html, number, with_unit};

/// More series have no colours of their own.
const MOST_SERIES: usize = 4;
/// More points than this are no chart on a page.
const MOST_POINTS: usize = 400;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 10.0;
const BOTTOM: f64 = 26.0;
/// Beyond this, and closer together than its inverse, numbers of this size cannot be reckoned with any more.
const LARGEST: f64 = 1e300;

fn can_be_drawn(value: f64) -> bool {
    value.abs() <= LARGEST
}

/// How values are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Bars beside each other.
    Bars,
    /// Bars on top of each other; for counts.
    Stack,
    Lines,
}

/// Values by label.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) unit: Option<String>,
    pub(crate) shape: Shape,
    pub(crate) labels: Vec<String>,
    pub(crate) series: Vec<Series>,
}

/// What is drawn in one colour.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// A class of the page that gives the colour; unless set, by its place.
    pub(crate) tone: Option<&'static str>,
    /// As many as there are labels; where there is no value, nothing is drawn.
    pub(crate) values: Vec<Option<f64>>,
}

/// A chart in two widths; the page shows the one that fits.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(crate) struct Drawn {
    pub(crate) wide: String,
    pub(crate) narrow: String,
}

/// Where values lie on the axis: from, to, and a line at each step.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Scale {
    low: f64,
    high: f64,
    step: f64,
}

impl Scale {
    /// Round numbers around the values; with zero for bars.
    fn around(low: f64, high: f64, zero: bool) -> Self {
        let (low, high) = if zero { (low.min(0.0), high.max(0.0)) } else { (low, high) };
        let span = if high - low > 1.0 / LARGEST { high - low } else { high.abs().max(1.0) };
        let rough = span / 4.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= rough);
        let step = step.unwrap_or(power * 10.0);
        let (low, mut high) = ((low / step).floor() * step, (high / step).ceil() * step);
        if high <= low {
            high = low + step;
        }
        Self { low, high, step }
    }

    fn ticks(self) -> impl Iterator<Item = f64> {
        let count = ((self.high - self.low) / self.step).round().clamp(1.0, 20.0) as usize;
        (0..=count).map(move |index| self.low + self.step * index as f64)
    }
}

impl Chart {
    /// Draws it. None when there is no value to draw.
    pub(crate) fn draw(&self) -> Option<Drawn> {
        let mut chart = self.clone();
        chart.labels.truncate(MOST_POINTS);
        chart.series.truncate(MOST_SERIES);
        for series in &mut chart.series {
            series.values.resize(chart.labels.len(), None);
            series.values.iter_mut().for_each(|value| *value = value.filter(|value| can_be_drawn(*value)));
        }
        let scale = chart.scale()?;
        Some(Drawn { wide: chart.svg(scale, 680.0, 240.0), narrow: chart.svg(scale, 320.0, 200.0) })
    }

    fn scale(&self) -> Option<Scale> {
        let mut all: Vec<f64> = if self.shape == Shape::Stack {
            let sum = |index: usize| self.series.iter().filter_map(|series| series.values[index]).sum();
            (0..self.labels.len()).map(sum).collect()
        } else {
            Vec::new()
        };
        let single: Vec<f64> = self.series.iter().flat_map(|series| series.values.iter().flatten().copied()).collect();
        if single.is_empty() {
            return None;
        }
        all.extend(single);
        let low = all.iter().copied().fold(f64::INFINITY, f64::min);
        let high = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // A line that begins far from zero would lose its shape there.
        let zero = self.shape != Shape::Lines || (low >= 0.0 && low < high / 2.0);
        Some(Scale::around(low, high, zero))
    }

    /// What it shows, for who cannot see it.
    fn words(&self) -> String {
        let mut words = self.title.clone();
        for series in &self.series {
            let values: Vec<f64> = series.values.iter().flatten().copied().collect();
            let unit = self.unit.as_deref();
            let low = values.iter().copied().reduce(f64::min);
            let high = values.iter().copied().reduce(f64::max);
            let _ = match (low, high, values.last()) {
                (Some(low), Some(high), Some(last)) => {
                    let [low, high, last] = [low, high, *last].map(|value| with_unit(value, unit));
                    write!(words, ". {}: from {low} to {high}, last {last}", series.name)
                }
                _ => write!(words, ". {}: no value", series.name),
            };
        }
        words
    }

    fn svg(&self, scale: Scale, width: f64, height: f64) -> String {
        let legend = self.series.len() > 1;
        let top = if legend { 34.0 } else { 22.0 };
        let (right, bottom) = (width - RIGHT, height - BOTTOM);
        let y = |value: f64| bottom - (value - scale.low) / (scale.high - scale.low) * (bottom - top);
        let words = html(&self.words());
        let mut svg = format!(
            "<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" \
             aria-label=\"{words}\"><title>{words}</title>"
        );
        let mut add = |piece: std::fmt::Arguments<'_>| {
            let _ = svg.write_fmt(piece);
        };
        if let Some(unit) = self.unit.as_deref().filter(|unit| !unit.is_empty()) {
            add(format_args!(
                "<text class=\"ax\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                top - 12.0,
                html(unit)
            ));
        }
        if legend {
            let room = (right - LEFT) / self.series.len() as f64;
            for (index, series) in self.series.iter().enumerate() {
                let x = LEFT + room * index as f64;
                let name = html(&shortened(&series.name, (room / 7.5) as usize));
                add(format_args!(
                    "<rect class=\"f {}\" x=\"{x:.1}\" y=\"5\" width=\"10\" height=\"10\" rx=\"2\"/>\
                     <text class=\"ax\" x=\"{:.1}\" y=\"14\">{name}</text>",
                    tone(series, index),
                    x + 15.0
                ));
            }
        }
        for tick in scale.ticks() {
            let at = y(tick);
            let class = if tick.abs() < scale.step / 1e6 { "zero" } else { "grid" };
            add(format_args!(
                "<line class=\"{class}\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"ax\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                at + 4.0,
                number(tick)
            ));
        }
        let slot = (right - LEFT) / self.labels.len().max(1) as f64;
        let longest = self.labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).min(12);
        let every = ((longest as f64 * 7.0 + 12.0) / slot).ceil().max(1.0) as usize;
        for (index, label) in self.labels.iter().enumerate().step_by(every) {
            let x = LEFT + slot * (index as f64 + 0.5);
            let label = html(&shortened(label, 12));
            add(format_args!(
                "<text class=\"ax\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                bottom + 18.0
            ));
        }
        if self.shape == Shape::Lines {
            for (index, series) in self.series.iter().enumerate() {
                let x = |index: usize| LEFT + slot * (index as f64 + 0.5);
                add(format_args!("{}", line(&series.values, x, y, tone(series, index))));
            }
        } else {
            svg.push_str(&self.bars(slot, y));
        }
        svg + "</svg>"
    }

    fn bars(&self, slot: f64, y: impl Fn(f64) -> f64) -> String {
        let stack = self.shape == Shape::Stack;
        let beside = if stack { 1 } else { self.series.len().max(1) };
        let gap = (slot * 0.25).min(14.0);
        let width = ((slot - gap) / beside as f64).min(48.0);
        let mut bars = String::new();
        for index in 0..self.labels.len() {
            let middle = LEFT + slot * (index as f64 + 0.5);
            let mut base = 0.0;
            for (place, series) in self.series.iter().enumerate() {
                let Some(value) = series.values[index] else { continue };
                let column = if stack { 0.0 } else { place as f64 };
                let x = middle - width * beside as f64 / 2.0 + width * column;
                let (from, to) = if stack { (base, base + value) } else { (0.0, value) };
                base = if stack { to } else { base };
                let (high, low) = (y(from.max(to)), y(from.min(to)));
                if low - high < 0.05 {
                    continue;
                }
                let told =
                    format!("{}, {}: {}", self.labels[index], series.name, with_unit(value, self.unit.as_deref()));
                let _ = write!(
                    bars,
                    "<rect class=\"f {}\" x=\"{x:.1}\" y=\"{high:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
                    tone(series, place),
                    (width - 1.0).max(1.0),
                    low - high,
                    html(&told)
                );
            }
        }
        bars
    }
}

fn tone(series: &Series, index: usize) -> &'static str {
    series.tone.unwrap_or(["c0", "c1", "c2", "c3"][index % MOST_SERIES])
}

fn shortened(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest.max(1) {
        return text.to_owned();
    }
    text.chars().take(longest.max(2) - 1).chain(['…']).collect()
}

/// A line through the values, broken where there is none; a value alone is a dot.
fn line(values: &[Option<f64>], x: impl Fn(usize) -> f64, y: impl Fn(f64) -> f64, tone: &str) -> String {
    let mut drawn = String::new();
    let mut path = String::new();
    let mut points = 0;
    let mut end = |path: &mut String, points: &mut usize, last: Option<(f64, f64)>| {
        match (*points, last) {
            (1, Some((x, y))) => {
                let _ = write!(drawn, "<circle class=\"f {tone}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2\"/>");
            }
            (2.., _) => {
                let _ = write!(drawn, "<path class=\"l {tone}\" fill=\"none\" d=\"{path}\"/>");
            }
            _ => {}
        }
        path.clear();
        *points = 0;
    };
    let mut last = None;
    for (index, value) in values.iter().enumerate() {
        let Some(value) = value else {
            end(&mut path, &mut points, last);
            continue;
        };
        let at = (x(index), y(*value));
        let _ = write!(path, "{}{:.1} {:.1}", if points == 0 { "M" } else { "L" }, at.0, at.1);
        points += 1;
        last = Some(at);
    }
    end(&mut path, &mut points, last);
    drawn
}

/// A small line without axes, with a dot at its end; empty when there are not two values.
pub(crate) fn sparkline(values: &[Option<f64>], label: &str) -> String {
    const WIDTH: f64 = 96.0;
    const HEIGHT: f64 = 28.0;
    let values: Vec<Option<f64>> = values.iter().map(|value| value.filter(|value| can_be_drawn(*value))).collect();
    let told: Vec<f64> = values.iter().flatten().copied().collect();
    if told.len() < 2 {
        return String::new();
    }
    let low = told.iter().copied().fold(f64::INFINITY, f64::min);
    let high = told.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let step = (WIDTH - 8.0) / (values.len().max(2) - 1) as f64;
    let x = |index: usize| 4.0 + step * index as f64;
    let flat = high - low <= 0.0;
    let y = |value: f64| if flat { HEIGHT / 2.0 } else { 4.0 + (high - value) / (high - low) * (HEIGHT - 8.0) };
    let label = html(label);
    let dot = values.iter().enumerate().filter_map(|(index, value)| Some((index, (*value)?))).next_back();
    let dot = dot.map_or(String::new(), |(index, value)| {
        format!("<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\" fill=\"currentColor\"/>", x(index), y(value))
    });
    let path =
        line(&values, x, y, "spark").replace("class=\"l spark\"", "stroke=\"currentColor\" stroke-width=\"1.5\"");
    format!(
        "<svg width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\">\
         <title>{label}</title>{}{dot}</svg>",
        path.replace("class=\"f spark\"", "fill=\"currentColor\"")
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chart(shape: Shape, values: &[Option<f64>]) -> Chart {
        let labels = (0..values.len()).map(|index| format!("<b>{index}")).collect();
        let series = |name: &str| Series { name: name.into(), tone: None, values: values.to_vec() };
        Chart {
            title: "\"x\" <i>".into(),
            unit: Some("<u>".into()),
            shape,
            labels,
            series: vec![series("a&b"), series("c")],
        }
    }

    #[test]
    fn axes_have_round_numbers_around_the_values() {
        let ticks = |low, high, zero| Scale::around(low, high, zero).ticks().collect::<Vec<_>>();
        assert_eq!(ticks(0.0, 97.0, true), [0.0, 25.0, 50.0, 75.0, 100.0]);
        assert_eq!(ticks(5.0, 5.0, true), [0.0, 2.0, 4.0, 6.0]);
        assert_eq!(ticks(5.0, 5.0, false), [4.0, 6.0]);
        assert_eq!(ticks(-30.0, 55.0, true), [-50.0, -25.0, 0.0, 25.0, 50.0, 75.0]);
        assert_eq!(ticks(0.0, 0.0, true), [0.0, 0.25]);
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert_eq!(chart(Shape::Lines, &[]).draw(), None);
        assert_eq!(chart(Shape::Bars, &[None, Some(f64::NAN)]).draw(), None);
        assert_eq!(sparkline(&[Some(1.0), None], "x"), "");
    }

    proptest! {
        #[test]
        fn whatever_is_drawn_is_well_formed_escaped_and_within_its_bounds(
            values in prop::collection::vec(prop::option::of(prop_oneof![
                8 => -1e12..1e12_f64,
                1 => prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO,
            ]), 1..80),
            shape in prop::sample::select(vec![Shape::Bars, Shape::Stack, Shape::Lines]),
        ) {
            let any = values.iter().flatten().any(|value| value.abs() <= LARGEST);
            let small = sparkline(&values, "x");
            prop_assert!(!small.contains("NaN") && !small.contains("inf"), "{small}");
            let drawn = chart(shape, &values).draw();
            prop_assert_eq!(drawn.is_some(), any);
            let Some(drawn) = drawn else { return Ok(()) };
            for (svg, width) in [(&drawn.wide, 680.0), (&drawn.narrow, 320.0)] {
                prop_assert!(!svg.contains("<b>") && !svg.contains("<i>") && !svg.contains("<u>") && !svg.contains("a&b"));
                prop_assert!(!svg.contains("NaN") && !svg.contains("inf"));
                for name in ["x", "x1", "x2", "cx"] {
                    for piece in svg.split(&format!(" {name}=\"")).skip(1) {
                        let x: f64 = piece.split('"').next().unwrap().parse().unwrap();
                        prop_assert!((0.0..=width).contains(&x), "{x} of {width}");
                    }
                }
                prop_assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
            }
        }
    }
}
