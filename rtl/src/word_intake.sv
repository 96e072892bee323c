// Words from the encoder: activations into the activation memory, row scales into the requantizer. Counts them all.
//
// A word waits while the array reads both ports of its bank; after a while it asks the array for a cycle.
module word_intake #(
    parameter int unsigned TOKENS = bertile_pkg::WordTokens
) (
    input logic clk,
    input logic reset,  // also between launches

    input logic [TOKENS*16-1:0] word,
    input logic word_valid,
    output logic word_ready,

    output logic write_valid,
    output logic [15:0] write_address,
    output logic [TOKENS-1:0][7:0] write_data,
    input logic write_grant,
    input logic write_outside,
    output logic hold,  // the array may leave out a cycle

    output logic scale_write,
    output logic [2:0] scale_row,
    output logic [TOKENS/2-1:0][15:0] scale_data,

    output logic [31:0] received,
    output logic word_error
);

  localparam int unsigned Patience = 8;
  localparam int unsigned ScaleRows = 2 * bertile_pkg::CapacityProbabilitySlots;

  logic [7:0] kind;
  logic is_activation, is_scale, taken, scale_legal;
  logic [$clog2(Patience+1)-1:0] waited;

  assign write_data = word[TOKENS*8-1:0];
  assign scale_data = word[TOKENS*8-1:0];
  assign write_address = word[TOKENS*8+:16];
  assign scale_row = write_address[2:0];
  assign kind = word[TOKENS*8+16+:8];
  assign is_activation = kind == 8'(bertile_pkg::WordKindActivation);
  assign is_scale = kind == 8'(bertile_pkg::WordKindRowScale);
  assign scale_legal = is_scale && write_address < 16'(ScaleRows);

  assign write_valid = word_valid && is_activation;
  assign scale_write = word_valid && scale_legal;
  assign word_ready = !is_activation || write_grant;
  assign taken = word_valid && word_ready;
  assign hold = waited == ($clog2(Patience + 1))'(Patience);

  always_ff @(posedge clk) begin
    word_error <= taken && (is_activation ? write_outside : !scale_legal);
    if (taken) received <= received + 1'b1;
    if (!word_valid || word_ready) waited <= '0;
    else if (!hold) waited <= waited + 1'b1;
    if (reset) begin
      received <= '0;
      waited <= '0;
      word_error <= 1'b0;
    end
  end

endmodule
