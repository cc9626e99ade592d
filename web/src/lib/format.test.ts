import { describe, expect, test } from "vitest";
import {
  age,
  counted,
  direction,
  exactSum,
  instantOf,
  lateness,
  money,
  price,
  quantity,
  signedMoney,
  signedPercent,
  stretch,
  time,
  words,
  ZONES,
} from "./format";

describe("amounts", () => {
  test.each([
    [1024310.55, "1,024,310.55"],
    [0, "0.00"],
    [-0.001, "0.00"],
    [-270, "−270.00"],
    [null, "—"],
  ])("money(%s) is %s", (value, text) => expect(money(value)).toBe(text));

  test.each([
    [376, "+376.00"],
    [-21455.1, "−21,455.10"],
    [0.004, "0.00"],
    [null, "—"],
  ])("signedMoney(%s) is %s", (value, text) => expect(signedMoney(value)).toBe(text));

  test.each([
    [-2.05, "−2.05%"],
    [1.0234, "+1.02%"],
    [0, "0.00%"],
  ])("signedPercent(%s) is %s", (value, text) => expect(signedPercent(value)).toBe(text));

  test.each([
    [226.1, "226.10"],
    [226.1055, "226.1055"],
    [0.4312, "0.4312"],
    [0, "0.00"],
  ])("price(%s) is %s", (value, text) => expect(price(value)).toBe(text));

  test.each([
    [-150, "−150"],
    [0.0375, "0.0375"],
    [0.000000001, "0.000000001"],
    [10000, "10,000"],
  ])("quantity(%s) is %s", (value, text) => expect(quantity(value)).toBe(text));

  test("what rounds to nothing has no direction", () => {
    expect([direction(0.004), direction(-0.004), direction(0.01), direction(-0.01)]).toEqual([
      "flat",
      "flat",
      "up",
      "down",
    ]);
  });

  test("a sum of cents makes no cent", () => {
    expect(exactSum([0.1, 0.2, -0.3])).toBe(0);
    expect(exactSum(Array.from({ length: 1000 }, () => 0.01))).toBe(10);
  });
});

describe("times", () => {
  test.each([
    [0.4, "0.4 s"],
    [47.9, "47 s"],
    [119, "119 s"],
    [870, "14 m"],
    [7200, "2 h"],
    [259200, "3 d"],
    [null, "—"],
  ])("age(%s) is %s", (seconds, text) => expect(age(seconds)).toBe(text));

  test.each([
    [0.088, "88 ms"],
    [4.211, "4.21 s"],
    [38.2, "38.2 s"],
    [187, "3 m 07 s"],
    [-0.02, "−20 ms"],
  ])("lateness(%s) is %s", (seconds, text) => expect(lateness(seconds)).toBe(text));

  test.each([
    [47, "47 s"],
    [187, "3 m 07 s"],
    [8040, "2 h 14 m"],
  ])("stretch(%s) is %s", (seconds, text) => expect(stretch(seconds)).toBe(text));

  test("clock times are in the zone asked for, with the date only when it is another day", () => {
    const [eastern, utc] = ZONES;
    const now = Date.parse("2026-03-12T18:30:00Z");
    expect(time("2026-03-12T18:02:31Z", eastern, now)).toBe("14:02:31");
    expect(time("2026-03-12T18:02:31.070Z", utc, now, true)).toBe("18:02:31.070");
    expect(time("2026-03-11T18:02:31Z", utc, now)).toBe("11 Mar 18:02:31");
    expect(time("not a time", utc, now)).toBe("—");
  });
});

test("words are for people", () => {
  expect(words("PARTIALLY_FILLED")).toBe("Partially filled");
  expect([counted(1, "fill"), counted(3, "fill")]).toEqual(["1 fill", "3 fills"]);
});

test("a typed clock time is an instant of the same day in the zone", () => {
  const near = Date.parse("2026-03-12T18:32:10.500Z");
  const [newYork, utc] = ZONES;
  expect(instantOf("14:32:11.25", newYork, near)).toBe(Date.parse("2026-03-12T18:32:11.250Z"));
  expect(instantOf(" 9:05 ", newYork, near)).toBe(Date.parse("2026-03-12T13:05:00.000Z"));
  expect(instantOf("18:32:11,007", utc, near)).toBe(Date.parse("2026-03-12T18:32:11.007Z"));
  for (const none of ["", "soon", "24:00:00", "14:60:00", "14:32:61", "14:32:11.2500"]) {
    expect(instantOf(none, utc, near)).toBeNull();
  }
});
