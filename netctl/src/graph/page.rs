//! The picture as one page of HTML that needs nothing else: search, a panel with what is under the pointer, findings, zoom.

use std::fmt::Write as _;

use super::{
    model::Picture,
    svg::{escape, number, svg},
};

pub fn page(picture: &Picture) -> String {
    let text = |found: &serde_json::Value, key: &str| escape(found[key].as_str().unwrap_or_default());
    let mut findings = String::new();
    for found in &picture.findings {
        let place = &found["where"];
        let named = ["device", "netns", "file"].into_iter().find_map(|key| place[key].as_str());
        let _ = writeln!(
            findings,
            "<li class=\"{}\" data-find=\"{}\"><b>{}</b> {} {}<br>{}<code>{}</code></li>",
            text(found, "severity"),
            escape(named.unwrap_or_default()),
            text(found, "code"),
            text(place, "node"),
            escape(named.unwrap_or_default()),
            text(found, "message"),
            text(found, "fix"),
        );
    }
    let count = number(picture.findings.len(), "finding");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>netctl graph</title>\n<style>{STYLE}</style></head>\n\
         <body>\n<div id=\"view\">{}</div>\n<aside>\n<input id=\"search\" type=\"search\" placeholder=\"container, address, device, MAC\" autofocus>\n\
         <p id=\"hits\"></p>\n<pre id=\"panel\">Point at something; click to keep it.\nWheel: zoom. Drag: move. Double click: all.</pre>\n\
         <h2>{count}</h2>\n<ul id=\"findings\">\n{findings}</ul>\n</aside>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        svg(picture)
    )
}

const STYLE: &str = "\
html,body{margin:0;height:100%;font:13px DejaVu Sans,Verdana,sans-serif}body{display:flex}#view{flex:1;overflow:hidden;cursor:grab}\
#view svg{width:100%;height:100%}aside{width:320px;padding:12px;overflow:auto;border-left:1px solid #8c959f;background:#f6f8fa}\
input{width:100%;box-sizing:border-box;padding:6px;font:inherit}pre{white-space:pre-wrap;background:#fff;border:1px solid #d0d7de;padding:8px;min-height:9em}\
h2{font-size:14px}ul{list-style:none;padding:0}li{margin:6px 0;padding:6px;border-left:4px solid #8c959f;background:#fff;cursor:pointer;overflow-wrap:anywhere}\
li.error{border-color:#b00020}li.warning{border-color:#d4a72c}code{display:block;color:#57606a}";

const SCRIPT: &str = "\
const svg=document.getElementById('picture'),panel=document.getElementById('panel'),hits=document.getElementById('hits'),\
search=document.getElementById('search'),things=[...svg.querySelectorAll('.thing')];let kept=false;\
const whole=svg.getAttribute('viewBox').split(' ').map(Number);let box=[...whole];\
const show=()=>svg.setAttribute('viewBox',box.join(' '));const told=t=>t.querySelector('title').textContent;\
for(const t of things){t.addEventListener('mouseenter',()=>{if(!kept)panel.textContent=told(t)});\
t.addEventListener('click',()=>{kept=true;panel.textContent=told(t)})}\
svg.addEventListener('click',e=>{if(!e.target.closest('.thing'))kept=false});\
const find=()=>{const words=search.value.toLowerCase().split(/\\s+/).filter(w=>w);let n=0;for(const t of things){\
const is=words.every(w=>told(t).toLowerCase().includes(w));t.classList.toggle('faded',words.length>0&&!is);\
t.classList.toggle('found',words.length>0&&is);n+=is}hits.textContent=words.length?n+' of '+things.length:''};\
search.addEventListener('input',find);\
for(const li of document.querySelectorAll('#findings li'))li.addEventListener('click',()=>{search.value=li.dataset.find;find()});\
const at=e=>{const r=svg.getBoundingClientRect(),s=Math.max(box[2]/r.width,box[3]/r.height);\
return[box[0]+box[2]/2+(e.clientX-r.left-r.width/2)*s,box[1]+(e.clientY-r.top)*s,s]};\
svg.addEventListener('wheel',e=>{e.preventDefault();const[x,y]=at(e),f=e.deltaY>0?1.15:1/1.15;\
box=[x-(x-box[0])*f,y-(y-box[1])*f,box[2]*f,box[3]*f];show()},{passive:false});\
let from=null;svg.addEventListener('mousedown',e=>{from=at(e)});addEventListener('mouseup',()=>{from=null});\
svg.addEventListener('mousemove',e=>{if(!from)return;const to=at(e);box[0]-=to[0]-from[0];box[1]-=to[1]-from[1];show()});\
svg.addEventListener('dblclick',()=>{box=[...whole];show()});";
