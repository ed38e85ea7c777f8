// Playing in step: one clock for all the clips that play, led by the longest of them.

const MOST_VIDEOS = 56; // Browsers allow some 75 media players a page.

// A picture that can play: a poster until a video is needed, and again once it is released.
class Clip {
  constructor(frame, { url, poster, label, fps, seconds }) {
    Object.assign(this, { frame, url, label, fps: fps || 15, seconds: seconds || 0 });
    this.video = null;
    this.wanted = null;
    this.failed = false;
    if (poster) {
      const picture = el("img", { src: poster, alt: "", decoding: "async" });
      picture.addEventListener("error", () => picture.remove());
      frame.append(picture);
    }
  }

  attach(time) {
    if (this.video || this.failed) return;
    const video = el("video", { preload: "auto", playsinline: true, "aria-label": this.label });
    video.muted = true;
    video.tabIndex = -1;
    video.addEventListener("loadeddata", () => video.classList.add("shown"));
    video.addEventListener("loadedmetadata", () => this.onMetadata());
    video.addEventListener("seeked", () => this.onSeeked());
    video.addEventListener("error", () => this.onError());
    video.src = this.url;
    this.video = video;
    this.wanted = time;
    this.frame.append(video);
  }

  onMetadata() {
    const { video } = this;
    if (!video) return;
    if (Number.isFinite(video.duration)) this.seconds = video.duration;
    const seekable = video.seekable.length && video.seekable.end(video.seekable.length - 1) > 0;
    // A server without Range requests: hold the file in memory, or it could not be scrubbed.
    if (!seekable && location.protocol.startsWith("http") && !this.held) {
      this.hold();
      return;
    }
    if (this.wanted !== null) this.seek(this.wanted);
  }

  async hold() {
    this.held = true;
    try {
      const answer = await fetch(this.url);
      const url = URL.createObjectURL(await answer.blob());
      if (this.video) this.video.src = url;
      else URL.revokeObjectURL(url);
    } catch {
      this.onError();
    }
  }

  onError() {
    if (!this.video) return;
    this.failed = true;
    this.release();
    this.frame.classList.add("unplayable");
    this.frame.title = "this video cannot be played here";
  }

  onSeeked() {
    if (this.wanted !== null) {
      const time = this.wanted;
      this.wanted = null;
      this.seek(time);
    }
  }

  // Go to a time; while one seek is under way only the last wish is kept.
  seek(time) {
    const { video } = this;
    if (!video) return;
    if (video.readyState < 1 || video.seeking) {
      this.wanted = time;
      return;
    }
    this.wanted = null;
    const last = Math.max(0, this.seconds - 0.5 / this.fps);
    const target = Math.min(time, last);
    if (Math.abs(video.currentTime - target) > 1e-4) video.currentTime = target;
  }

  isAt(time) {
    const { video } = this;
    if (!video) return true;
    const last = Math.max(0, this.seconds - 0.5 / this.fps);
    return video.readyState >= 2 && !video.seeking
      && Math.abs(video.currentTime - Math.min(time, last)) < 0.5 / this.fps;
  }

  release() {
    const { video } = this;
    this.video = null;
    this.wanted = null;
    if (!video) return;
    if (video.src.startsWith("blob:")) URL.revokeObjectURL(video.src);
    this.held = false;
    video.removeAttribute("src");
    video.load();
    video.remove();
  }
}

class Player {
  constructor() {
    this.scope = null; // {name, clips(): the clips to play now}
    this.time = 0;
    this.playing = false;
    this.loop = true;
    this.rate = 1;
    this.clips = [];
    this.idle = [];
    this.turn = 0; // Raised by every command, so that what waits for an older one gives up.
    this.listeners = [];
  }

  tell() {
    this.listeners.forEach((listener) => listener());
  }

  get seconds() {
    return Math.max(0, ...this.clips.map((clip) => clip.seconds));
  }

  get fps() {
    return this.clips.length ? this.clips[0].fps : 15;
  }

  // Take up the clips of the scope that are there now; they come in at the clock's time.
  gather() {
    const now = this.scope ? this.scope.clips().filter((clip) => !clip.failed) : [];
    const kept = now.slice(0, MOST_VIDEOS);
    for (const clip of this.clips) {
      if (kept.includes(clip)) continue;
      clip.video?.pause();
      this.idle.push(clip);
    }
    // What has played stays where it stopped, until others need its place.
    this.idle = this.idle.filter((clip) => clip.video && !kept.includes(clip));
    while (this.idle.length + kept.length > MOST_VIDEOS && this.idle.length) {
      this.idle.shift().release();
    }
    kept.forEach((clip) => clip.attach(this.time));
    this.clips = kept;
  }

  setScope(scope) {
    if (this.scope === scope) return;
    const same = this.scope && scope && this.scope.name === scope.name;
    this.clips.forEach((clip) => clip.video?.pause());
    this.scope = scope;
    if (!same) this.time = 0;
    this.gather();
  }

  async play(scope) {
    if (scope) this.setScope(scope);
    if (!this.scope) return;
    this.playing = true;
    this.turn += 1;
    const { turn } = this;
    this.gather();
    if (this.time >= this.seconds - 0.6 / this.fps) this.time = 0;
    this.tell();
    await this.arrive(this.time, turn);
    if (turn !== this.turn) return;
    await this.go(turn);
  }

  // Wait until every clip shows the frame at `time`; one that cannot is not waited for long.
  async arrive(time, turn) {
    this.clips.forEach((clip) => { clip.video?.pause(); clip.seek(time); });
    const ends = performance.now() + 5000;
    while (turn === this.turn && performance.now() < ends) {
      if (this.clips.every((clip) => clip.failed || clip.isAt(time))) return;
      await new Promise((resolve) => { setTimeout(resolve, 15); });
    }
  }

  async go(turn) {
    for (const clip of this.clips) {
      if (!clip.video) continue;
      clip.video.playbackRate = this.rate;
      if (this.time < clip.seconds - 1 / clip.fps) clip.video.play().catch(() => {});
    }
    this.tell();
    const step = () => {
      if (turn !== this.turn || !this.playing) return;
      this.keepInStep(turn);
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  leader() {
    let best = null;
    for (const clip of this.clips) {
      if (clip.video && clip.video.readyState >= 2 && (!best || clip.seconds > best.seconds)) {
        best = clip;
      }
    }
    return best;
  }

  keepInStep(turn) {
    const leader = this.leader();
    if (!leader) return;
    if (leader.video.ended || leader.video.currentTime >= leader.seconds - 0.02) {
      this.atEnd();
      return;
    }
    this.time = leader.video.currentTime;
    for (const clip of this.clips) {
      const { video } = clip;
      if (!video || clip === leader || video.readyState < 2 || video.seeking) continue;
      if (this.time >= clip.seconds - 1 / clip.fps) continue;
      if (video.paused && turn === this.turn) video.play().catch(() => {});
      const behind = this.time - video.currentTime;
      if (Math.abs(behind) > 0.3) {
        clip.seek(this.time);
        video.playbackRate = this.rate;
      } else if (Math.abs(behind) > 0.2 / clip.fps) {
        const nudge = Math.max(-0.3, Math.min(0.3, behind * 2));
        video.playbackRate = this.rate * (1 + nudge);
      } else if (video.playbackRate !== this.rate) {
        video.playbackRate = this.rate;
      }
    }
    if (leader.video.playbackRate !== this.rate) leader.video.playbackRate = this.rate;
    if (leader.video.paused) leader.video.play().catch(() => {});
    this.tell();
  }

  atEnd() {
    this.turn += 1;
    if (this.loop) {
      this.time = 0;
      this.play();
    } else {
      this.pause();
    }
  }

  pause() {
    this.playing = false;
    this.turn += 1;
    this.clips.forEach((clip) => clip.video?.pause());
    this.seek(this.time);
  }

  toggle(scope) {
    if (this.playing && (!scope || (this.scope && scope.name === this.scope.name))) this.pause();
    else this.play(scope);
  }

  // Go to the middle of the frame at `time`, in every clip.
  seek(time) {
    const { fps } = this;
    const frames = Math.max(1, Math.round(this.seconds * fps));
    const frame = Math.min(frames - 1, Math.max(0, Math.floor(time * fps + 1e-3)));
    this.time = (frame + 0.5) / fps;
    this.clips.forEach((clip) => clip.seek(this.time));
    this.tell();
  }

  scrub(time) {
    if (this.playing) {
      this.playing = false;
      this.turn += 1;
      this.clips.forEach((clip) => clip.video?.pause());
    }
    this.gather();
    this.seek(time);
  }

  step(frames) {
    const { fps } = this;
    this.scrub((Math.floor(this.time * fps + 1e-3) + frames) / fps + 1e-4);
  }

  setRate(rate) {
    this.rate = rate;
    this.tell();
  }

  // Clips have come or gone, by scrolling or filtering.
  refresh() {
    if (!this.scope) return;
    const before = new Set(this.clips);
    this.gather();
    if (!this.playing) {
      this.clips.forEach((clip) => { if (!before.has(clip)) clip.seek(this.time); });
    }
  }

  forget(clips) {
    clips.forEach((clip) => clip.release());
    this.clips = this.clips.filter((clip) => !clips.includes(clip));
  }
}
