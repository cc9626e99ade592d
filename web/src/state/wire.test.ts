import { expect, test } from "vitest";
import { NOW, order, orderStatus } from "../testing/facts";
import { readFrame } from "./wire";

const good = { channel: "order:status", data: orderStatus(order()), epoch: "e", offset: 1, at: NOW };

test("a whole envelope is taken", () => {
  expect(readFrame(JSON.stringify(good))).toEqual({ kind: "envelope", envelope: good });
});

test("fields that are not known do no harm", () => {
  const more = { ...good, data: { ...good.data, invented_later: 1 }, invented_later: 2 };
  expect(readFrame(JSON.stringify(more)).kind).toBe("envelope");
});

test.each([
  ["not JSON", "{", "a frame is not JSON"],
  ["a list", "[]", "a frame is not an object"],
  ["no channel", "{}", "a frame names no channel"],
  ["a server's complaint", '{"type":"error","message":"unknown type"}', "a frame names no channel: unknown type"],
  ["no epoch", JSON.stringify({ ...good, epoch: undefined }), "order:status came without epoch or offset"],
  ["no data", JSON.stringify({ ...good, data: null }), "order:status carries no data"],
  [
    "a field short",
    JSON.stringify({ ...good, data: { id: "x", symbol: "A" } }),
    "order:status lacks status, filled_quantity",
  ],
])("%s is refused, and the reason is said", (_, text, why) => {
  expect(readFrame(text)).toEqual({ kind: "malformed", why });
});

test("a channel of later days is counted, not refused", () => {
  expect(readFrame(JSON.stringify({ ...good, channel: "moon:phase" }))).toEqual({
    kind: "unknown",
    channel: "moon:phase",
  });
});

test("a pong may tell the time", () => {
  expect(readFrame('{"type":"pong"}')).toEqual({ kind: "pong", serverTime: undefined });
  expect(readFrame(`{"type":"pong","server_time":"${NOW}"}`)).toEqual({ kind: "pong", serverTime: NOW });
});
