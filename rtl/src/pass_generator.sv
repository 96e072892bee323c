// Turns commands into passes: one tile over one row block each, in the order in which results leave.
module pass_generator (
    input logic clk,
    input logic reset,

    input engine_pkg::execute_command_t command,
    input logic command_valid,
    output logic command_ready,
    input logic [engine_pkg::WordStreams-1:0][31:0] received,  // words of each stream since the launch began

    input engine_pkg::entry_t entry,
    input logic entry_valid,
    output logic entry_ready,

    output engine_pkg::pass_t pass,
    output logic pass_valid,
    input logic pass_ready,

    output logic halting  // everything before `halt` was handed on
);

  localparam int unsigned Entries = 1 << engine_pkg::EntryBits;

  typedef enum logic [2:0] {IDLE, AWAIT, FETCH, PASS, HALT} state_t;
  state_t state;
  engine_pkg::execute_command_t now;
  logic [engine_pkg::WordStreams-1:0] arrived;
  logic is_gemm, is_scores, last_tile, last_row;
  logic [15:0] tile, base, start, groups;
  logic [7:0] row;

  // Entries in use. Keys and values stay until the next ones, or until a gemm.
  logic weights_held, keys_held, values_held;
  logic [engine_pkg::EntryBits-1:0] weights, keys, values;
  logic [15:0] keys_start, values_start, set_start;
  logic [Entries-1:0] released;  // by the next pass

  function automatic logic [Entries-1:0] one_hot(input logic held, input logic [engine_pkg::EntryBits-1:0] which);
    one_hot = held ? Entries'(1) << which : '0;
  endfunction

  assign is_gemm = now.requantize.mode == engine_pkg::MODE_GEMM;
  assign is_scores = now.requantize.mode == engine_pkg::MODE_SCORES;
  assign set_start = is_scores ? keys_start : values_start;
  assign command_ready = state == IDLE;
  assign entry_ready = state == FETCH;
  assign halting = state == HALT;
  assign last_tile = tile == now.tiles - 1'b1;
  assign last_row = row == now.rows - 1'b1;

  always_ff @(posedge clk) begin
    for (int s = 0; s < engine_pkg::WordStreams; s++) arrived[s] <= received[s] >= now.await_words[s];
    case (state)
      IDLE: begin
        now <= command;
        if (command_valid) state <= AWAIT;
        tile <= '0;
        row <= '0;
        base <= command.base;
        arrived <= '0;
      end
      AWAIT: begin
        start <= set_start;
        groups <= now.blank ? '0 : now.groups;
        if (arrived == '1) begin
          if (now.requantize.mode == engine_pkg::MODE_HALT) state <= HALT;
          else if (is_gemm || (now.reload && !now.blank)) state <= FETCH;
          else state <= PASS;
        end
      end
      FETCH: begin
        start  <= entry.start;
        groups <= now.blank ? '0 : is_gemm ? entry.groups : now.groups;
        if (entry_valid) state <= PASS;
      end
      PASS: begin
        if (pass_ready) begin
          if (is_gemm) begin
            row  <= last_row ? '0 : row + 1'b1;
            base <= last_row ? now.base : base + now.stride;
            if (last_row) begin
              tile  <= tile + 1'b1;
              state <= last_tile ? IDLE : FETCH;
            end
          end else begin
            tile  <= last_tile ? '0 : tile + 1'b1;
            start <= last_tile ? set_start : start + groups;
            if (last_tile) begin
              row  <= row + 1'b1;
              base <= base + now.stride;
              if (last_row) state <= IDLE;
            end
          end
        end
      end
      default: state <= HALT;  // until the launch ends in a reset
    endcase
    if (reset) state <= IDLE;
  end

  always_ff @(posedge clk) begin
    if (pass_valid && pass_ready) released <= '0;
    if (entry_valid && entry_ready) begin
      released <= one_hot(weights_held, weights) | one_hot(keys_held && (is_gemm || is_scores), keys) |
          one_hot(values_held && !is_scores, values);
      weights_held <= is_gemm;
      keys_held <= is_scores || (keys_held && !is_gemm);
      values_held <= !is_gemm && (!is_scores || values_held);
      if (is_gemm) weights <= entry.entry;
      if (is_scores) keys <= entry.entry;
      if (is_scores) keys_start <= entry.start;
      if (!is_gemm && !is_scores) values <= entry.entry;
      if (!is_gemm && !is_scores) values_start <= entry.start;
    end
    if (reset) begin
      weights_held <= 1'b0;
      keys_held <= 1'b0;
      values_held <= 1'b0;
      released <= '0;
      keys_start <= '0;
      values_start <= '0;
    end
  end

  assign pass_valid = state == PASS;
  always_comb begin
    pass = '0;
    pass.start = start;
    pass.groups = groups;
    pass.base = base;
    pass.bound = now.stride;
    pass.gather = is_gemm;
    pass.is_unsigned = now.is_unsigned;
    pass.release_entries = released;
    pass.requantize = now.requantize;
    pass.requantize.entry = weights;
  end

endmodule
