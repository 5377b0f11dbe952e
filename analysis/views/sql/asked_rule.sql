-- Whether the macro `delays_at` was called with one of some rules; checks its arguments.
--
-- The check stands in the condition that selects the rows, because a column that no query reads
-- is never computed.
--
-- reads    the macro's parameters metric, rule, train, test, gap, hold, floor
-- params   $mine        the rules
--          $rules       all rules that there are
--          $thresholds  the rules that take thresholds
--          $held        the rules that take hold
--          $rising      the metrics that are better when larger
--          $unknown     message for a rule that there isn't
-- grain    one boolean

case
    when rule is null or rule not in ($rules) then error($unknown)
    when rule in ($thresholds) and (train is null or test is null)
        then error('rule ' || rule || ' takes thresholds: train := ..., test := ...')
    when rule not in ($thresholds) and (train is not null or test is not null)
        then error('rule ' || rule || ' takes no thresholds. Leave train and test out.')
    when not isfinite(train::double) or not isfinite(test::double)
        then error('thresholds are finite numbers')
    when rule = 'relative' and metric in ($rising) and greatest(train, test) > 1
        then error('rule relative takes factors of at most 1 for ' || metric)
    when rule = 'relative' and metric not in ($rising) and least(train, test) < 1
        then error('rule relative takes factors of at least 1 for ' || metric)
    when gap is null or gap < 1 or gap <> trunc(gap)
        then error('gap is a whole number of steps, at least 1')
    when hold is null or hold < 1 then error('hold is at least 1')
    when hold <> trunc(hold) then error('hold is a whole number')
    when rule not in ($held) and hold <> 1
        then error('rule ' || rule || ' takes no hold. Leave it out.')
    when rule = 'threshold' and floor is not null
        then error('rule threshold takes no floor. Leave it out.')
    when floor <= 0 or floor > 1 then error('floor is above 0 and at most 1')
    else rule in ($mine)
end
