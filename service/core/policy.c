/* SPDX-License-Identifier: Apache-2.0 */
#include <glib.h>
#include <math.h>

#include "core/job.h"
#include "core/limits.h"

const struct policy policy_default = {
    .attempts_max = 4,
    .kind = BACKOFF_EXPONENTIAL,
    .initial_ms = SECOND_MS,
    .multiplier = 2,
    .delay_max_ms = HOUR_MS,
    .has_jitter = true,
    .jitter = 0.1,
    .has_attempt_timeout = true,
    .attempt_timeout_ms = 30 * MINUTE_MS,
};

struct policy policy_merge(struct policy policy, const struct policy *next) {
  if (policy.attempts_max == 0)
    policy.attempts_max = next->attempts_max;
  if (policy.kind == BACKOFF_UNSET)
    policy.kind = next->kind;
  if (policy.initial_ms == 0)
    policy.initial_ms = next->initial_ms;
  if (policy.multiplier == 0)
    policy.multiplier = next->multiplier;
  if (policy.delay_max_ms == 0)
    policy.delay_max_ms = next->delay_max_ms;
  if (!policy.has_jitter) {
    policy.has_jitter = next->has_jitter;
    policy.jitter = next->jitter;
  }
  if (policy.delays == 0) {
    policy.delays_ms = next->delays_ms;
    policy.delays = next->delays;
  }
  if (!policy.has_attempt_timeout) {
    policy.has_attempt_timeout = next->has_attempt_timeout;
    policy.attempt_timeout_ms = next->attempt_timeout_ms;
  }
  return policy;
}

static double base_delay_ms(const struct policy *policy, uint32_t attempt) {
  double initial_ms = (double)policy->initial_ms;
  switch (policy->kind) {
  case BACKOFF_LINEAR:
    return initial_ms * attempt;
  case BACKOFF_LIST:
    if (policy->delays > 0)
      return (double)policy->delays_ms[MIN(attempt, policy->delays) - 1];
    return initial_ms; /* a list whose delays no level gave */
  case BACKOFF_CONSTANT:
    return initial_ms;
  case BACKOFF_UNSET:
  case BACKOFF_EXPONENTIAL:
    break;
  }
  return initial_ms * pow(policy->multiplier, attempt - 1);
}

int64_t policy_delay_ms(const struct policy *policy, uint32_t attempt, double random) {
  struct policy effective = policy_merge(*policy, &policy_default);
  double delay_ms = base_delay_ms(&effective, MAX(attempt, 1));
  delay_ms = CLAMP(delay_ms, 0, (double)effective.delay_max_ms); /* before the jitter, so that many at the cap still spread */
  delay_ms *= 1 + effective.jitter * (2 * random - 1);
  return llround(MAX(delay_ms, 0));
}
