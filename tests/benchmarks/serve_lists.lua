-- Asks for the list of a user drawn at random from as many as the environment says.
local users = tonumber(os.getenv("BENCH_USERS"))
math.randomseed(7)
request = function()
  return wrk.format("GET", "/v1/users/user-" .. math.random(0, users - 1) .. "/recommendations")
end
