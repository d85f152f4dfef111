//! Small helpers around the browser.

use leptos::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use wasm_bindgen::{Clamped, JsCast, JsValue, closure::Closure};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AddEventListenerOptions, Blob, BlobPropertyBag, CanvasRenderingContext2d, Element, Event, File, HtmlAnchorElement, HtmlCanvasElement,
    HtmlElement, HtmlImageElement, ImageData, IntersectionObserver, IntersectionObserverEntry, Response, Url,
};

use super::{engine::in_words, query};

const KEY: &str = "waterfill.settings";

/// What was remembered, if it is there and still understood.
pub fn recall<T: DeserializeOwned>() -> Option<T> {
    let storage = window().local_storage().ok()??;
    serde_json::from_str(&storage.get_item(KEY).ok()??).ok()
}

/// Remembers settings. A browser that keeps nothing is no error.
pub fn remember<T: Serialize>(value: &T) {
    if let (Ok(Some(storage)), Ok(text)) = (window().local_storage(), serde_json::to_string(value)) {
        let _ = storage.set_item(KEY, &text);
    }
}

/// What the page's head says under a name: nothing where it does not.
pub fn meta(name: &str) -> String {
    let element = document().query_selector(&format!("meta[name={name}]")).ok().flatten();
    element.and_then(|e| e.get_attribute("content")).unwrap_or_default()
}

/// Does something at the first of each of these events of the window.
pub fn at_first(events: &[&str], act: impl Fn() + 'static) {
    let once = AddEventListenerOptions::new();
    once.set_once(true);
    once.set_passive(true);
    let act = Closure::<dyn FnMut()>::new(act);
    for event in events {
        let _ = window().add_event_listener_with_callback_and_add_event_listener_options(event, act.as_ref().unchecked_ref(), &once);
    }
    // It may come as long as the page lives.
    act.forget();
}

/// Tells the window's listeners: boot.js waits for that the engine runs.
pub fn tell(event: &str) {
    if let Ok(event) = Event::new(event) {
        let _ = window().dispatch_event(&event);
    }
}

/// Whether a media query holds, as it changes.
pub fn media(query: &str) -> ReadSignal<bool> {
    let list = window().match_media(query).ok().flatten();
    let (get, set) = signal(list.as_ref().is_some_and(|l| l.matches()));
    if let Some(list) = list {
        let watched = list.clone();
        let changed = Closure::<dyn FnMut()>::new(move || set.set(watched.matches()));
        let _ = list.add_event_listener_with_callback("change", changed.as_ref().unchecked_ref());
        // Watched as long as the page lives.
        changed.forget();
    }
    get
}

/// Width and height of an element in whole CSS pixels, as they change; 0 before it is shown.
pub fn size_of<E: leptos::html::ElementType>(node: NodeRef<E>) -> ReadSignal<(u32, u32)>
where
    E::Output: JsCast + AsRef<Element> + Clone + 'static,
{
    let (get, set) = signal((0, 0));
    Effect::new(move |_| {
        let Some(element) = node.get() else { return };
        let element: Element = AsRef::<Element>::as_ref(&element).clone();
        let watched = element.clone();
        let measure = move || {
            let size = (watched.client_width().max(0) as u32, watched.client_height().max(0) as u32);
            if get.get_untracked() != size {
                set.set(size);
            }
        };
        measure();
        let resized = Closure::<dyn FnMut()>::new(measure);
        if let Ok(observer) = web_sys::ResizeObserver::new(resized.as_ref().unchecked_ref()) {
            observer.observe(&element);
            let observer = StoredValue::new_local((observer, resized));
            on_cleanup(move || observer.with_value(|(o, _)| o.disconnect()));
        }
    });
    get
}

/// Whether any of an element is in sight, as that changes; it is where the browser does not say.
pub fn in_sight<E: leptos::html::ElementType>(node: NodeRef<E>) -> ReadSignal<bool>
where
    E::Output: JsCast + AsRef<Element> + Clone + 'static,
{
    let (get, set) = signal(true);
    Effect::new(move |_| {
        let Some(element) = node.get() else { return };
        let crossed = Closure::<dyn FnMut(js_sys::Array)>::new(move |entries: js_sys::Array| {
            // The last is how it is now.
            if let Some(entry) = entries.iter().last() {
                set.set(entry.unchecked_into::<IntersectionObserverEntry>().is_intersecting());
            }
        });
        if let Ok(observer) = IntersectionObserver::new(crossed.as_ref().unchecked_ref()) {
            observer.observe(element.as_ref());
            let observer = StoredValue::new_local((observer, crossed));
            on_cleanup(move || observer.with_value(|(o, _)| o.disconnect()));
        }
    });
    get
}

/// Scrolls the box around an element, and nothing else, so that the element is in sight.
pub fn scroll_inside(element: &Element, around: &str) {
    let Ok(Some(frame)) = element.closest(around) else { return };
    let (inner, outer) = (element.get_bounding_client_rect(), frame.get_bounding_client_rect());
    if inner.top() < outer.top() || inner.bottom() > outer.bottom() {
        let middle = (outer.height() - inner.height()) / 2.0;
        frame.set_scroll_top(frame.scroll_top() + (inner.top() - outer.top() - middle) as i32);
    }
}

/// The page's address, with all its parameters.
pub fn address() -> String {
    window().location().href().unwrap_or_default()
}

/// What a parameter of the page's address says.
pub fn parameter(name: &str) -> Option<String> {
    query::get(&window().location().search().ok()?, name)
}

/// Sets a parameter of the page's address, or takes it out; all others stay. Nothing is loaded.
pub fn set_parameter(name: &str, value: Option<&str>) {
    let location = window().location();
    let (Ok(path), Ok(search), Ok(hash), Ok(history)) = (location.pathname(), location.search(), location.hash(), window().history())
    else {
        return;
    };
    let address = format!("{path}{}{hash}", query::set(&search, name, value));
    let _ = history.replace_state_with_url(&JsValue::NULL, "", Some(&address));
}

/// Gives an element the focus, which scrolls to it.
pub fn go_to(element: &HtmlElement) {
    let _ = element.focus();
    element.scroll_into_view_with_bool(true);
}

/// Files with their names: an array of `[name, File]`.
pub fn named(files: &js_sys::Array) -> js_sys::Array {
    files.iter().map(|file| js_sys::Array::of2(&file.unchecked_ref::<File>().name().into(), &file)).collect()
}

/// A blob of one text.
pub fn text_blob(text: &str, kind: &str) -> Result<Blob, String> {
    blob(&js_sys::Array::of1(&text.into()), kind)
}

/// A blob of parts.
pub fn blob(parts: &js_sys::Array, kind: &str) -> Result<Blob, String> {
    let options = BlobPropertyBag::new();
    options.set_type(kind);
    Blob::new_with_u8_array_sequence_and_options(parts, &options).map_err(in_words)
}

/// Saves a blob under a name, as if the user had followed a download link.
pub fn save(blob: &Blob, name: &str) -> Result<(), String> {
    let url = Url::create_object_url_with_blob(blob).map_err(in_words)?;
    let link: HtmlAnchorElement = document().create_element("a").map_err(in_words)?.unchecked_into();
    link.set_href(&url);
    link.set_download(name);
    link.click();
    // The browser reads the blob after the click has returned.
    set_timeout(move || drop(Url::revoke_object_url(&url)), std::time::Duration::from_secs(60));
    Ok(())
}

/// Fetches a file that lies beside the page.
pub async fn fetch_file(path: &str, name: &str) -> Result<File, String> {
    let response: Response = JsFuture::from(window().fetch_with_str(path)).await.map_err(in_words)?.unchecked_into();
    if !response.ok() {
        return Err(format!("the server answered {}", response.status()));
    }
    let content = JsFuture::from(response.blob().map_err(in_words)?).await.map_err(in_words)?;
    File::new_with_blob_sequence(&js_sys::Array::of1(&content), name).map_err(in_words)
}

/// Puts text on the clipboard. Where that is denied, the text of `shown` is selected, for the user to copy.
pub async fn copy(text: &str, shown: Option<HtmlElement>) -> bool {
    let clipboard = js_sys::Reflect::get(&window().navigator(), &"clipboard".into()).unwrap_or(JsValue::UNDEFINED);
    // Absent on pages that are not secure.
    if !clipboard.is_undefined() && JsFuture::from(window().navigator().clipboard().write_text(text)).await.is_ok() {
        return true;
    }
    if let (Some(shown), Ok(Some(selection))) = (shown, window().get_selection()) {
        let _ = selection.select_all_children(&shown);
    }
    false
}

/// Draws an SVG on a canvas, twice its size, and returns it as PNG.
pub async fn png_of(svg: &str, (width, height): (u32, u32)) -> Result<Blob, String> {
    let url = Url::create_object_url_with_blob(&text_blob(svg, "image/svg+xml")?).map_err(in_words)?;
    let image = HtmlImageElement::new().map_err(in_words)?;
    image.set_src(&url);
    let decoded = JsFuture::from(image.decode()).await;
    let (canvas, context) = canvas((width * 2, height * 2))?;
    let drawn = decoded.map_err(in_words).and_then(|_| {
        context
            .draw_image_with_html_image_element_and_dw_and_dh(&image, 0.0, 0.0, width as f64 * 2.0, height as f64 * 2.0)
            .map_err(in_words)
    });
    let _ = Url::revoke_object_url(&url);
    drawn?;
    encoded(&canvas).await
}

/// A canvas of so many pixels, that is not on the page.
fn canvas(size: (u32, u32)) -> Result<(HtmlCanvasElement, CanvasRenderingContext2d), String> {
    let canvas: HtmlCanvasElement = document().create_element("canvas").map_err(in_words)?.unchecked_into();
    let context = sized(&canvas, size)?;
    Ok((canvas, context))
}

/// Gives a canvas its size in pixels, which empties it.
fn sized(canvas: &HtmlCanvasElement, (width, height): (u32, u32)) -> Result<CanvasRenderingContext2d, String> {
    canvas.set_width(width);
    canvas.set_height(height);
    Ok(canvas.get_context("2d").map_err(in_words)?.ok_or("this browser has no canvas")?.unchecked_into())
}

/// Puts pixels, of four bytes each, on a canvas, which gets the size of the picture.
pub fn put_pixels(canvas: &HtmlCanvasElement, size: (u32, u32), rgba: &[u8]) -> Result<(), String> {
    let context = sized(canvas, size)?;
    let data = ImageData::new_with_u8_clamped_array_and_sh(Clamped(rgba), size.0, size.1).map_err(in_words)?;
    context.put_image_data(&data, 0.0, 0.0).map_err(in_words)
}

/// Pictures side by side, as PNG. They get the same height, `least` or more: every pixel of a small one becomes a square.
pub async fn png_of_pixels(pictures: &[((u32, u32), &[u8])], least: u32) -> Result<Blob, String> {
    const BETWEEN: u32 = 8;
    let height = pictures.iter().map(|((_, h), _)| *h).max().unwrap_or(1).max(least);
    let factor = |h: u32| (height / h.max(1)).max(1);
    let width = pictures.iter().map(|((w, h), _)| w * factor(*h) + BETWEEN).sum::<u32>().saturating_sub(BETWEEN);
    let (whole, context) = canvas((width.max(1), height))?;
    context.set_image_smoothing_enabled(false);
    let mut left = 0;
    for (size, rgba) in pictures {
        let (one, _) = canvas(*size)?;
        put_pixels(&one, *size, rgba)?;
        let (w, h) = (size.0 * factor(size.1), size.1 * factor(size.1));
        context
            .draw_image_with_html_canvas_element_and_dw_and_dh(&one, f64::from(left), 0.0, f64::from(w), f64::from(h))
            .map_err(in_words)?;
        left += w + BETWEEN;
    }
    encoded(&whole).await
}

/// What is on a canvas, as PNG.
async fn encoded(canvas: &HtmlCanvasElement) -> Result<Blob, String> {
    let promise = js_sys::Promise::new(&mut |resolve, reject| {
        let done = Closure::once_into_js(move |blob: JsValue| resolve.call1(&JsValue::NULL, &blob));
        if let Err(e) = canvas.to_blob(done.unchecked_ref()) {
            let _ = reject.call1(&JsValue::NULL, &e);
        }
    });
    JsFuture::from(promise).await.map_err(in_words)?.dyn_into().map_err(|_| "the picture could not be encoded".to_string())
}
