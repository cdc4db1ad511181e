/* The opt-out within a site's own page: the choice is a first-party cookie, which trackers read too. */
(function (options) {
  "use strict";
  var REFUSED = "mtm_consent_removed";
  var texts = options.texts;
  var tracker = (window._paq = window._paq || []);

  function read(name) {
    return ("; " + document.cookie).indexOf("; " + name + "=") >= 0;
  }

  function write(name, value, seconds, domain) {
    document.cookie =
      name + "=" + value + "; path=/; max-age=" + seconds + "; SameSite=Lax" +
      (domain ? "; domain=" + domain : "") + (location.protocol === "https:" ? "; Secure" : "");
  }

  /* The host and the domains above it, the widest first; browsers refuse those that belong to everybody. */
  function domains() {
    var host = location.hostname, parts = host.split("."), found = [];
    if (!/^[0-9.]+$/.test(host) && host.indexOf(":") < 0) {
      for (var i = parts.length - 2; i >= 0; i--) found.push(parts.slice(i).join("."));
    }
    return found.concat("");
  }

  function remove(name) {
    domains().forEach(function (domain) { write(name, "", 0, domain); });
  }

  function refuse() {
    remove("mtm_consent");
    remove(REFUSED);
    domains().some(function (domain) {
      write(REFUSED, new Date().getTime(), options.seconds, domain);
      return read(REFUSED);
    });
    tracker.push(["optUserOut"]);
  }

  function allow() {
    remove(REFUSED);
    tracker.push(["forgetUserOptOut"]);
  }

  function paragraph(box, text) {
    var p = document.createElement("p");
    p.textContent = text;
    box.appendChild(p);
    return p;
  }

  function show(box, lost) {
    var refused = read(REFUSED);
    var signal =
      (options.doNotTrack && navigator.doNotTrack === "1") ||
      (options.globalPrivacyControl && navigator.globalPrivacyControl === true);
    box.textContent = "";
    if (options.intro) paragraph(box, texts.intro);
    var status = paragraph(
      box, lost ? texts.cookies : refused ? texts.refused : signal ? texts.signal : texts.counted
    );
    status.setAttribute("role", "status");
    var button = document.createElement("button");
    button.type = "button";
    button.textContent = refused ? texts.allow : texts.refuse;
    button.addEventListener("click", function () {
      (refused ? allow : refuse)();
      show(box, read(REFUSED) === refused);
    });
    box.appendChild(button);
  }

  function start() {
    var box = document.getElementById(options.div);
    if (!box) return;
    box.setAttribute("lang", options.language);
    for (var name in options.style) box.style[name] = options.style[name];
    show(box, false);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})(__OPTIONS__);
