// Issues the cycles of the array, four weight vectors each, pass after pass without a gap.
//
// Nothing behind it can stop, so it waits in front: a pass ends only when the results of the one before will have left
// (OUTPUTS cycles) and when its own have room in the result FIFO. `hold` leaves one cycle to the activation memory.
module pass_issuer #(
    parameter int unsigned OUTPUTS    = bertile_pkg::ArrayOutputs,
    parameter int unsigned TILE_WORDS = bertile_pkg::CapacityTileMemoryBeats,
    parameter int unsigned RESULTS    = bertile_pkg::StreamResults  // depth of the result FIFO
) (
    input logic clk,
    input logic reset,

    input engine_pkg::pass_t pass,
    input logic pass_valid,
    output logic pass_ready,
    output logic [(1<<engine_pkg::EntryBits)-1:0] release_entries,

    input logic hold,
    input logic result_left,  // the result FIFO has one place more
    output logic idle,  // nothing to issue, and all results have left

    output engine_pkg::cycle_t cycle,
    output logic [$clog2(TILE_WORDS)-1:0] tile_address,
    output engine_pkg::requantize_t requantize,  // of the pass that ends
    output logic requantize_valid
);

  localparam int unsigned CreditBits = $clog2(RESULTS + 1);

  engine_pkg::pass_t now;
  logic active, last, issue, load, blank, first;
  logic [15:0] groups_left, position, base;
  logic [CreditBits-1:0] credits;
  logic [$clog2(OUTPUTS)-1:0] drain_left;
  logic may_end;

  assign issue = active && !hold && (!last || may_end);
  assign load = pass_valid && (!active || (issue && last));
  assign pass_ready = load;

  always_ff @(posedge clk) begin
    release_entries <= '0;
    if (issue) begin
      groups_left <= groups_left - 1'b1;
      last <= groups_left <= 16'd2;
      position <= position + 1'b1;
      base <= base + (now.gather ? 16'd0 : 16'(bertile_pkg::ArrayInputs));
      first <= 1'b0;
      if (last) active <= 1'b0;
    end
    if (load) begin
      active <= 1'b1;
      now <= pass;
      groups_left <= pass.groups;
      last <= pass.groups <= 16'd1;
      blank <= pass.groups == '0;
      position <= pass.start;
      base <= pass.base;
      first <= 1'b1;
      release_entries <= pass.release_entries;
    end
    if (reset) begin
      active <= 1'b0;
      release_entries <= '0;
    end
  end

  always_ff @(posedge clk) begin
    // A register, so one cycle behind: ends are OUTPUTS cycles apart.
    may_end <= !(issue && last) && drain_left == '0 && credits >= CreditBits'(OUTPUTS);
    if (issue && last) drain_left <= ($clog2(OUTPUTS))'(OUTPUTS - 2);
    else if (drain_left != '0) drain_left <= drain_left - 1'b1;
    credits <= credits + CreditBits'(result_left) - (issue && last ? CreditBits'(OUTPUTS) : '0);
    idle <= !active && !pass_valid && credits == CreditBits'(RESULTS);
    if (reset) begin
      drain_left <= '0;
      may_end <= 1'b0;
      credits <= CreditBits'(RESULTS);
      idle <= 1'b0;
    end
  end

  always_ff @(posedge clk) begin
    cycle.valid <= issue && !reset;
    cycle.first <= first;
    cycle.last <= last;
    cycle.blank <= blank;
    cycle.gather <= now.gather;
    cycle.is_unsigned <= now.is_unsigned;
    cycle.base <= base;
    cycle.bound <= now.bound;
    tile_address <= ($clog2(TILE_WORDS))'(position);
  end

  assign requantize = now.requantize;
  assign requantize_valid = issue && last;

`ifndef SYNTHESIS
  always_ff @(posedge clk) begin
    if (!reset) assert (credits <= CreditBits'(RESULTS)) else $error("pass_issuer: too many results left");
  end
`endif

endmodule
