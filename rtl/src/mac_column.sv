// All outputs of one token: a mac_cell for each pair, and the multiplexer that drains their results one at a time.
module mac_column #(
    parameter int unsigned OUTPUTS = bertile_pkg::ArrayOutputs  // 8 or 16
) (
    input logic clk,
    input logic [bertile_pkg::ArrayInputs-1:0][OUTPUTS/2-1:0][bertile_pkg::ArrayFieldBits+8:0] weights,
    input logic [bertile_pkg::ArrayInputs-1:0][engine_pkg::OperandBits-1:0] operands,
    input logic valid,  // as in mac_cell
    input logic first,
    input logic blank,
    input logic last,
    input logic [$clog2(OUTPUTS)-1:0] select,  // an output
    output logic [engine_pkg::AccumulatorBits-1:0] selected  // its result, two cycles later
);

  localparam int unsigned Inputs = bertile_pkg::ArrayInputs;
  localparam int unsigned Pairs = OUTPUTS / 2;
  localparam int unsigned Quads = OUTPUTS / 4;
  localparam int unsigned Bits = engine_pkg::AccumulatorBits;

  logic [OUTPUTS-1:0][Bits-1:0] results;

  logic [Pairs-1:0][Inputs-1:0][bertile_pkg::ArrayFieldBits+8:0] pair_weights;
  always_comb begin
    for (int pair = 0; pair < Pairs; pair++) begin
      for (int i = 0; i < Inputs; i++) pair_weights[pair][i] = weights[i][pair];
    end
  end

  for (genvar pair = 0; pair < Pairs; pair++) begin : g_pair
    mac_cell mac (
        .clk,
        .weights(pair_weights[pair]),
        .operands,
        .valid,
        .first,
        .blank,
        .last,
        .result_low(results[2*pair]),
        .result_high(results[2*pair+1])
    );
  end

  // One of four, then one of the quads.
  logic [Quads-1:0][Bits-1:0] quad_selected;
  logic [3:0] quad;
  always_ff @(posedge clk) begin
    for (int q = 0; q < Quads; q++) quad_selected[q] <= results[4*q+32'(select[1:0])];
    quad <= 4'(select >> 2);
    selected <= quad_selected[Quads == 1 ? 0 : 32'(quad)];
  end

endmodule
