//! Pictures of image-to-image networks: one over the other with a divider to move, and all of them side by side. The engine made the pixels
//! and the PSNR; here they are put on canvases.

use std::sync::Arc;

use js_sys::{Array, Uint8Array};
use leptos::{html, prelude::*, task::spawn_local};
use wasm_bindgen::JsCast;
use web_sys::{Element, PointerEvent};

use super::{dom, state::App};
use crate::report::pictures::{Shown, psnr_words};

/// Longest side of the pictures with the divider, in CSS pixels.
const STAGE: usize = 440;
/// Least height of a picture that is saved: smaller ones are enlarged, every pixel to a square.
const SAVED: u32 = 256;
/// How much a difference is enlarged.
const ENLARGED: u32 = 8;

/// The pixels of a picture. Two are equal if they are one and the same.
#[derive(Clone)]
pub struct Raster(Arc<Pixels>);

struct Pixels {
    height: usize,
    width: usize,
    /// Red, green, blue and opaqueness of every pixel, row after row.
    rgba: Vec<u8>,
}

/// What the engine made of one image.
struct Picture {
    shown: Shown,
    input: Option<Raster>,
    full: Raster,
    compressed: Raster,
}

/// The pictures of an evaluation. Two are equal if they are of one and the same.
#[derive(Clone)]
pub struct Gallery(Arc<Vec<Picture>>);

impl PartialEq for Raster {
    fn eq(&self, other: &Raster) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl PartialEq for Gallery {
    fn eq(&self, other: &Gallery) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl std::fmt::Debug for Gallery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} pictures", self.0.len())
    }
}

impl Gallery {
    /// Takes the pictures of an evaluation; none if it has none.
    pub(super) fn of(shown: Vec<Shown>, pixels: &Array) -> Option<Gallery> {
        let mut pixels = pixels.iter().map(|p| p.unchecked_into::<Uint8Array>().to_vec());
        let mut next = |[height, width]: [usize; 2]| {
            let rgba = pixels.next()?;
            (rgba.len() == 4 * height * width && !rgba.is_empty()).then(|| Raster(Arc::new(Pixels { height, width, rgba })))
        };
        let mut pictures = Vec::with_capacity(shown.len());
        for shown in shown {
            let input = next(shown.input.unwrap_or_default());
            let (full, compressed) = (next(shown.output), next(shown.output));
            pictures.push(Picture { input, full: full?, compressed: compressed?, shown });
        }
        (!pictures.is_empty()).then(|| Gallery(Arc::new(pictures)))
    }

    /// The input, and the pictures of both networks.
    pub(super) fn scenes(&self) -> Vec<Scene> {
        let scene = |p: &Picture| {
            let mut layers = vec![
                Layer::new("full", "Full precision", None, &p.full),
                Layer::new("compressed", "Compressed", Some(p.shown.psnr()), &p.compressed),
            ];
            layers.extend(p.input.as_ref().map(|input| Layer::new("input", "Input", None, input)));
            Scene { name: p.shown.name.clone(), part: p.shown.part(), layers }
        };
        self.0.iter().map(scene).collect()
    }

    /// The pictures of two settings, A and B, of the same images; none if they are of others.
    pub(super) fn beside(&self, other: &Gallery) -> Option<Vec<Scene>> {
        let same =
            |(a, b): (&Picture, &Picture)| (a.shown.image, a.shown.output, a.shown.whole) == (b.shown.image, b.shown.output, b.shown.whole);
        if self.0.len() != other.0.len() || !self.0.iter().zip(&*other.0).all(same) {
            return None;
        }
        let scene = |(a, b): (&Picture, &Picture)| {
            let mut layers = vec![
                Layer::new("a", "A, kept", Some(a.shown.psnr()), &a.compressed),
                Layer::new("b", "B, now", Some(b.shown.psnr()), &b.compressed),
                Layer::new("full", "Full precision", None, &b.full),
            ];
            layers.extend(b.input.as_ref().map(|input| Layer::new("input", "Input", None, input)));
            Scene { name: b.shown.name.clone(), part: b.shown.part(), layers }
        };
        Some(self.0.iter().zip(&*other.0).map(scene).collect())
    }
}

/// A picture among those of one image.
#[derive(Clone, PartialEq)]
pub struct Layer {
    key: &'static str,
    name: &'static str,
    /// Against the full-precision network's, in dB; none for what is not compared.
    psnr: Option<f64>,
    raster: Raster,
}

impl Layer {
    fn new(key: &'static str, name: &'static str, psnr: Option<f64>, raster: &Raster) -> Layer {
        Layer { key, name, psnr, raster: raster.clone() }
    }

    /// The name's first word or words: `A` of `A, kept`.
    fn short(&self) -> &'static str {
        self.name.split_once(',').map_or(self.name, |(short, _)| short)
    }

    /// `Compressed, PSNR 35.12 dB`.
    fn words(&self) -> String {
        match self.psnr {
            Some(f64::INFINITY) => format!("{}, identical to full precision", self.name),
            Some(db) => format!("{}, PSNR {}", self.name, psnr_words(db, 2)),
            None => self.name.into(),
        }
    }
}

/// What is shown of one image: the first two pictures one over the other, and all of them side by side.
#[derive(Clone, PartialEq)]
pub struct Scene {
    name: String,
    part: Option<String>,
    layers: Vec<Layer>,
}

impl Scene {
    /// The words of a picture with the divider.
    fn words(&self, difference: bool) -> String {
        let [left, right, ..] = &self.layers[..] else { return String::new() };
        match difference {
            true => format!("{}: difference of {} and {}, times {ENLARGED}.", self.name, left.words(), right.words()),
            false => format!("{}: left of the divider {}; right of it {}.", self.name, left.words(), right.words()),
        }
    }
}

/// Pixels on a canvas. Without words it is not there for who cannot see it.
#[component]
fn Canvas(raster: Signal<Option<Raster>>, #[prop(optional, into)] words: MaybeProp<String>) -> impl IntoView {
    let canvas: NodeRef<html::Canvas> = NodeRef::new();
    Effect::new(move |_| {
        if let (Some(canvas), Some(Raster(p))) = (canvas.get(), raster.get()) {
            // A browser without canvases shows none; there is nothing else to be done.
            let _ = dom::put_pixels(&canvas, (p.width as u32, p.height as u32), &p.rgba);
        }
    });
    let named = move || words.get().is_some();
    view! {
        <canvas node_ref=canvas role=move || named().then_some("img") aria-label=move || words.get()
            aria-hidden=move || (!named()).then_some("true")></canvas>
    }
}

/// The pictures of a few images, one of which is chosen. `id` names it.
#[component]
pub fn Viewer(app: App, id: &'static str, scenes: Memo<Vec<Scene>>) -> impl IntoView {
    let (which, set_which) = signal(0usize);
    let (divider, set_divider) = signal(50.0f64);
    let (difference, set_difference) = signal(false);
    let (dragging, set_dragging) = signal(false);
    let scene = Memo::new(move |_| scenes.with(|s| s.get(which.get().min(s.len().saturating_sub(1))).cloned()));
    let layer = move |k: usize| scene.with(|s| s.as_ref().and_then(|s| s.layers.get(k).cloned()));
    let raster = move |k: usize| Signal::derive(move || layer(k).map(|l| l.raster));
    let name = move |k: usize| layer(k).map_or("", |l| l.short());
    let options = move || {
        let option = |(i, s): (usize, &Scene)| {
            view! { <option value=i.to_string() selected=move || which.get() == i>{s.name.clone()}</option> }
        };
        scenes.with(|s| s.iter().enumerate().map(option).collect_view())
    };
    let frame = move || {
        let (h, w) = layer(0).map_or((1, 1), |l| (l.raster.0.height, l.raster.0.width));
        format!("aspect-ratio: {w} / {h}; width: min(100%, {}px, {}px); --at: {}%", STAGE, STAGE * w / h, divider.get())
    };
    let stage: NodeRef<html::Div> = NodeRef::new();
    let move_to = move |e: &PointerEvent| {
        let Some(element) = stage.get_untracked() else { return };
        let r = AsRef::<Element>::as_ref(&element).get_bounding_client_rect();
        if r.width() > 0.0 {
            set_divider.set((100.0 * (f64::from(e.client_x()) - r.left()) / r.width()).round().clamp(0.0, 100.0));
        }
    };
    let pressed = move |e: PointerEvent| {
        if e.button() == 0 && !difference.get_untracked() {
            if let Some(element) = e.current_target().and_then(|t| t.dyn_into::<Element>().ok()) {
                let _ = element.set_pointer_capture(e.pointer_id());
            }
            set_dragging.set(true);
            move_to(&e);
        }
    };
    let words = move || scene.with(|s| s.as_ref().map(|s| s.words(difference.get())));
    let thumbs = move || {
        let layers = scene.with(|s| s.as_ref().map(|s| s.layers.clone())).unwrap_or_default();
        let thumb = |l: Layer| {
            let words = scene.with_untracked(|s| s.as_ref().map(|s| format!("{}: {}", s.name, l.words())));
            let psnr = l.psnr.map(|db| psnr_words(db, 2));
            view! {
                <li data-layer=l.key data-psnr=l.psnr.map(|db| db.to_string())>
                    <Canvas raster=Signal::stored(Some(l.raster)) words/>
                    <span>{l.name}{psnr.map(|words| view! { <small>{words}</small> })}</span>
                </li>
            }
        };
        layers.into_iter().map(thumb).collect_view()
    };
    let part = move || scene.with(|s| s.as_ref().and_then(|s| s.part.clone()));
    let save = move |_| {
        if let Some(scene) = scene.get_untracked() {
            spawn_local(async move {
                let file = format!("{}.png", scene.name.replace(['/', '\\'], "-"));
                let rows: Vec<_> =
                    scene.layers.iter().map(|l| &*l.raster.0).map(|p| ((p.width as u32, p.height as u32), &p.rgba[..])).collect();
                app.save(dom::png_of_pixels(&rows, SAVED).await, &file);
            });
        }
    };
    view! {
        <div class="pictures" data-testid=id role="group" aria-label="Pictures">
            <div class="fields">
                <div class="field">
                    <label for=format!("{id}-which")>"Picture"</label>
                    <select id=format!("{id}-which") data-testid=format!("{id}-which")
                        on:change:target=move |e| set_which.set(e.target().value().parse().unwrap_or_default())>{options}</select>
                </div>
                <div class="field">
                    <label for=format!("{id}-divider")>{move || format!("Divider: {} left, {} right", name(0), name(1))}</label>
                    <input id=format!("{id}-divider") data-testid=format!("{id}-divider") class="slider" type="range" min="0" max="100" step="1"
                        prop:value=move || divider.get().to_string() disabled=difference
                        aria-valuetext=move || format!("{} % of the width shows {}", divider.get(), name(0))
                        on:input:target=move |e| set_divider.set(e.target().value().parse().unwrap_or(50.0))/>
                </div>
                <label class="check"><input type="checkbox" data-testid=format!("{id}-difference") prop:checked=difference
                    on:change:target=move |e| set_difference.set(e.target().checked())/>{format!("Difference × {ENLARGED}")}</label>
                <button type="button" class="button small" data-testid=format!("{id}-save") on:click=save>"Save (PNG)"</button>
            </div>
            <div class="stage" data-testid=format!("{id}-stage") node_ref=stage style=frame role="img" aria-label=words
                class:difference=difference class:dragging=dragging on:pointerdown=pressed
                on:pointermove=move |e| if dragging.get_untracked() { move_to(&e) }
                on:pointerup=move |_| set_dragging.set(false) on:pointercancel=move |_| set_dragging.set(false)>
                <Canvas raster=raster(1)/>
                <div class="over"><Canvas raster=raster(0)/></div>
                <span class="line"></span>
            </div>
            <ul class="thumbs">{thumbs}</ul>
            <p class="fine">{part}</p>
        </div>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gallery(images: &[usize], psnr: Option<f64>) -> Gallery {
        let raster = Raster(Arc::new(Pixels { height: 1, width: 1, rgba: vec![0, 0, 0, 255] }));
        let picture = |&image: &usize| {
            let shown =
                Shown { name: format!("image {}", image + 1), image, input: Some([1, 1]), output: [1, 1], whole: [300, 1], psnr_db: psnr };
            Picture { shown, input: Some(raster.clone()), full: raster.clone(), compressed: raster.clone() }
        };
        Gallery(Arc::new(images.iter().map(picture).collect()))
    }

    #[test]
    fn what_is_shown_has_words() {
        let scenes = gallery(&[0, 3], Some(35.123)).scenes();
        assert_eq!(scenes[1].layers.iter().map(|l| l.key).collect::<Vec<_>>(), ["full", "compressed", "input"]);
        assert_eq!(scenes[1].words(false), "image 4: left of the divider Full precision; right of it Compressed, PSNR 35.12 dB.");
        assert_eq!(scenes[1].words(true), "image 4: difference of Full precision and Compressed, PSNR 35.12 dB, times 8.");
        assert!(scenes[0].part.as_ref().is_some_and(|p| p.contains("1×1 of 300×1 pixels")));
        let exact = gallery(&[0], None).scenes();
        assert!(exact[0].words(false).ends_with("right of it Compressed, identical to full precision."));
    }

    #[test]
    fn a_and_b_are_side_by_side_where_they_are_of_the_same_images() {
        let (a, b) = (gallery(&[0, 3], Some(30.0)), gallery(&[0, 3], Some(40.0)));
        let scenes = a.beside(&b).expect("the same images");
        assert_eq!(scenes[0].layers.iter().map(|l| (l.key, l.psnr)).take(2).collect::<Vec<_>>(), [("a", Some(30.0)), ("b", Some(40.0))]);
        assert!(a.beside(&gallery(&[0, 2], None)).is_none() && a.beside(&gallery(&[0], None)).is_none());
    }
}
