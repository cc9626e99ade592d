/**
 * One order's story out of the journal, asked for when the drawer opens and again after the order has changed.
 *
 * Not for the order's present state, which the socket tells. Invariant: one question at a time, and never two within
 * `REST_MS`, for each is a fold of the whole journal in a process of its own.
 */
import { useCallback, useEffect, useRef, useState } from "react";
import { ApiError, fetchStory } from "../../api/client";
import type { ExplanationView } from "../../api/types";

/** Milliseconds of rest after an answer before the next question, and of quiet before the first. */
export const REST_MS = 5_000;
export const FIRST_MS = 100;

export interface AskedStory {
  readonly story: ExplanationView | null;
  readonly fault: ApiError | null;
  readonly isAsking: boolean;
  readonly ask: () => void;
}

/** The story of an order; `version` changes whenever there may be more to tell, and is null until there is any. */
export function useStory(id: string, version: string | null): AskedStory {
  const [story, setStory] = useState<ExplanationView | null>(null);
  const [fault, setFault] = useState<ApiError | null>(null);
  const [isAsking, setAsking] = useState(false);
  const busy = useRef(false);
  const gone = useRef(false);
  const told = useRef<string | null>(null);
  const latest = useRef(version);
  latest.current = version;

  const ask = useCallback(async () => {
    if (busy.current) return;
    busy.current = true;
    setAsking(true);
    const asked = latest.current;
    try {
      const answer = await fetchStory(id);
      if (gone.current) return;
      told.current = asked;
      setStory(answer);
      setFault(null);
    } catch (error) {
      if (gone.current) return;
      told.current = asked;
      setFault(error instanceof ApiError ? error : new ApiError(String(error)));
    } finally {
      busy.current = false;
      if (!gone.current) setAsking(false);
    }
  }, [id]);

  useEffect(() => {
    gone.current = false;
    return () => {
      gone.current = true;
    };
  }, []);

  const isFirst = story === null && fault === null;
  useEffect(() => {
    if (version === null || isAsking || told.current === version) return;
    const timer = setTimeout(() => void ask(), isFirst ? FIRST_MS : REST_MS);
    return () => clearTimeout(timer);
  }, [ask, version, isAsking, isFirst]);

  return { story, fault, isAsking, ask: () => void ask() };
}
